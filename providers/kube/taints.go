package kube

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/lifeboat/lifeboat/providers"
)

// Taint says what a taint on this node means.
type Taint struct {
	Key   string
	Value string // only with this value; "" is any
	// Kind of the notice; "" makes none, the taint is only logged.
	Kind providers.Kind
	// Lead is how long after the taint was set the node is taken.
	Lead time.Duration
}

// noKind is how a configuration says that a taint makes no notice.
const noKind = "none"

// ParseTaint reads a taint of the configuration: KEY:KIND:LEAD or KEY=VALUE:KIND:LEAD, as "example.com/leaving:drain:5m", or
// KEY:none for one that makes no notice.
func ParseTaint(text string) (Taint, error) {
	name, rest, _ := strings.Cut(text, ":")
	kind, lead, timed := strings.Cut(rest, ":")
	var t Taint
	t.Key, t.Value, _ = strings.Cut(name, "=")
	if kind == "" || timed == (kind == noKind) {
		return Taint{}, fmt.Errorf("taint %.80q is not KEY:KIND:LEAD, KEY=VALUE:KIND:LEAD or KEY:none, as example.com/leaving:drain:5m", text)
	}
	if timed {
		t.Kind = providers.Kind(kind)
		var err error
		if t.Lead, err = time.ParseDuration(lead); err != nil {
			return Taint{}, fmt.Errorf("taint %.80q: the lead time is none: %w", text, err)
		}
	}
	return t, t.check()
}

// check refuses what can't be meant.
func (t Taint) check() error {
	switch {
	case t.Key == "" || strings.ContainsAny(t.Key, " \t\n=:"):
		return fmt.Errorf("taint key %.80q is none", t.Key)
	case t.Key == corev1.TaintNodeUnschedulable:
		return errors.New(t.Key + " is set with every cordon, which is a notice of its own")
	case t.Lead < 0:
		return fmt.Errorf("taint %s: the lead %v is negative", t.Key, t.Lead)
	}
	switch t.Kind {
	case "", providers.Preemption, providers.Drain, providers.Rebalance, providers.Maintenance, providers.Cordon, providers.Pause:
		return nil
	}
	return fmt.Errorf("taint %s: %.40q is no kind of notice", t.Key, t.Kind)
}

// DisruptionTaints are the taints that are known to announce the end of a node, or to make it likely.
func DisruptionTaints() []Taint {
	const (
		spot    = 2 * time.Minute  // EC2 user guide, "Spot Instance interruption notices"
		shorter = 30 * time.Second // Compute Engine, "Spot VMs", and Azure, "Scheduled Events": Preempt
	)
	return []Taint{
		// Cluster autoscaler, utils/taints and FAQ. The node is drained, then deleted; pods get at most
		// --max-graceful-termination-sec (600 s). The value is the Unix time at which it was set.
		{Key: "ToBeDeletedByClusterAutoscaler", Kind: providers.Drain, Lead: 10 * time.Minute},
		// Cluster autoscaler: not needed at the moment, and taken back often; a removal has become likely. The default of
		// --scale-down-unneeded-time is 10 minutes.
		{Key: "DeletionCandidateOfClusterAutoscaler", Kind: providers.Rebalance, Lead: 10 * time.Minute},
		// Karpenter, "Disruption": before a node is replaced, consolidated or interrupted; since v1. It names no deadline
		// (terminationGracePeriod is not set by default); an interruption of a spot instance leaves two minutes.
		{Key: "karpenter.sh/disrupted", Kind: providers.Drain, Lead: spot},
		// Karpenter's v1beta1.
		{Key: "karpenter.sh/disruption", Value: "disrupting", Kind: providers.Drain, Lead: spot},
		// aws-node-termination-handler, pkg/node. The values are ids of events. It begins to drain when it sets them.
		{Key: "aws-node-termination-handler/spot-itn", Kind: providers.Preemption, Lead: spot},
		{Key: "aws-node-termination-handler/asg-lifecycle-termination", Kind: providers.Drain, Lead: spot},
		{Key: "aws-node-termination-handler/scheduled-maintenance", Kind: providers.Drain, Lead: spot},
		{Key: "aws-node-termination-handler/rebalance-recommendation", Kind: providers.Rebalance, Lead: spot},
		// Google Kubernetes Engine, and k8s-node-termination-handler (--taint).
		{Key: "cloud.google.com/impending-node-termination", Kind: providers.Preemption, Lead: shorter},
		// AKS, "Node auto-drain": before a preemption or a redeployment that was scheduled.
		{Key: "remediator.kubernetes.azure.com/unschedulable", Kind: providers.Drain, Lead: shorter},
		// aks-node-termination-handler, for scheduled events of the type Preempt.
		{Key: "aks-node-termination-handler/preempt", Kind: providers.Preemption, Lead: shorter},
		// Set when the machine is off (cloud-provider, node lifecycle controller), or was declared dead by hand or by a survivor
		// (agent/survivor): whoever reads this lives, so that it is old or wrong, and no reason to begin anything.
		{Key: ShutdownTaint},
		{Key: corev1.TaintNodeOutOfService},
	}
}

// meaning finds what a taint means; the first entry of the tables that fits counts.
func (n *Node) meaning(t corev1.Taint) (Taint, bool) {
	if t.Key == n.o.OwnTaint {
		return Taint{}, false
	}
	return meaningOf(t, n.taints)
}

// meaningOf is the first entry of a table that fits.
func meaningOf(t corev1.Taint, table []Taint) (Taint, bool) {
	for _, known := range table {
		if known.Key == t.Key && (known.Value == "" || known.Value == t.Value) {
			return known, true
		}
	}
	return Taint{}, false
}

// unixTime reads a value that is a time in seconds since 1970, as the cluster autoscaler writes it; zero for any other.
func unixTime(value string) time.Time {
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err != nil || seconds < 1e9 || seconds > 1e11 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}
