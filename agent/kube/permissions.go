package kube

// Permission is a rule of the agent's ClusterRole.
type Permission struct {
	Group    string // API group; "" is the core
	Resource string // as pods or pods/status
	Verbs    []string
	For      string // what it is needed for
}

// Permissions are all that the agent needs, and nothing else. Those of the survivor are its own.
func Permissions() []Permission {
	return []Permission{
		{Resource: "nodes", Verbs: []string{"get", "list", "watch", "patch"}, For: "watch this node, mark and cordon it, and see whether the nodes of other executors go too"},
		{Resource: "pods", Verbs: []string{"get", "list", "watch", "patch", "delete"}, For: "watch the executors' pods on this node, find their drivers and the nodes of other executors, mark and end executors"},
		{Resource: "pods/status", Verbs: []string{"patch"}, For: "have Spark take executors whose pods are deleted for deleted, and not for failed ones"},
		{Resource: "persistentvolumeclaims", Verbs: []string{"get", "patch"}, For: "mark the claims of executors' local dirs"},
		{Resource: "persistentvolumes", Verbs: []string{"get"}, For: "see whether a volume can leave its node"},
		{Resource: "events", Verbs: []string{"create"}, For: "say what a rescue does"},
	}
}
