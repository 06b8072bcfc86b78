package survivor

// Rule is a permission that a survivor needs, as RBAC names it.
type Rule struct {
	Namespace string // "": the whole cluster
	Group     string // "": the core API
	Resource  string // with its subresource
	Name      string // "": all of them
	Verbs     []string
	Why       string
}

// nodeLeaseNamespace holds the Leases of kubelets (k8s.io/api/core/v1, NamespaceNodeLease).
const nodeLeaseNamespace = "kube-node-lease"

// Permissions are all that a survivor in a namespace uses, and nothing else.
func Permissions(own string) []Rule {
	const leases, coordination = "leases", "coordination.k8s.io"
	return []Rule{
		{Resource: "nodes", Verbs: []string{"get", "list", "watch", "patch"}, Why: "which of the nodes are silent; a fresh look before each step; the out-of-service taint"},
		{Resource: "pods", Verbs: []string{"list", "delete"}, Why: "executors of a dead node"},
		{Resource: "pods/status", Verbs: []string{"patch"}, Why: "their phase Failed, which their drivers see at once"},
		{Resource: "events", Verbs: []string{"create"}, Why: "which node was declared dead, and why"},
		{Namespace: nodeLeaseNamespace, Group: coordination, Resource: leases, Verbs: []string{"get"}, Why: "when a silent node's kubelet was last there"},
		{Namespace: own, Group: coordination, Resource: leases, Verbs: []string{"create"}, Why: "the election of one replica"},
		{Namespace: own, Group: coordination, Resource: leases, Name: LeaseName, Verbs: []string{"get", "update"}, Why: "the election of one replica"},
	}
}
