package kube

// Permission is a rule of the agent's ClusterRole.
type Permission struct {
	Group     string // API group; "" is the core
	Resource  string // as pods or pods/status
	Verbs     []string
	Namespace bool   // a Role in the agent's own namespace is enough
	For       string // what it is needed for
}

// Permissions are all that the agent needs, and nothing else. Those of the survivor are its own.
func Permissions() []Permission {
	return []Permission{
		{Resource: "nodes", Verbs: []string{"get", "list", "watch", "patch"}, For: "watch this node, mark and cordon it, and see whether the nodes of other executors go too"},
		{Resource: "pods", Verbs: []string{"get", "list", "watch", "patch", "delete"}, For: "watch the executors' pods on this node, find their drivers and the nodes of other executors, and end executors"},
	}
}
