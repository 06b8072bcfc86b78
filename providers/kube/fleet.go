package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/lifeboat/lifeboat/providers"
)

const (
	// MaxFleet is how many nodes a Fleet can have: what Kubernetes supports in one cluster ("Considerations for large
	// clusters"), and as many again.
	MaxFleet = 10000
	// fleetPage is how many nodes are listed at once. A real Node object has 10 to 20 KiB, most of it names of images.
	fleetPage = 200

	labelZone = corev1.LabelTopologyZone
)

// ShutdownTaint is set by the cloud controller manager on a node that is not ready, after the cloud has said that its machine is
// shut down; where the cloud knows no such machine it deletes the Node object (k8s.io/cloud-provider, CloudNodeLifecycleController).
const ShutdownTaint = "node.cloudprovider.kubernetes.io/shutdown"

// Member is what is known of one node of a fleet.
type Member struct {
	NodeState
	Zone    string // label topology.kubernetes.io/zone
	Mounted int    // volumes that its kubelet says it still uses (status.volumesInUse)
}

// Tainted says whether a taint with this key is on the node.
func (m Member) Tainted(key string) bool {
	return slices.ContainsFunc(m.Taints, func(t corev1.Taint) bool { return t.Key == key })
}

// Silent says that the control plane has not heard the kubelet for node-monitor-grace-period. False as a value of Ready is
// another thing: that was said by the kubelet itself.
func (m Member) Silent() bool { return m.Ready == corev1.ConditionUnknown }

// Fleet watches the nodes that a label selector names, with one watch. Of each it keeps a few hundred bytes. Needed are the
// verbs list and watch on nodes.
type Fleet struct {
	objects *follower[*nodeObject]
}

// NewFleet opens no connection. Of the options Node is not used.
func NewFleet(o Options, selector string) (*Fleet, error) {
	o.Node = "-"
	if err := o.check("kube-fleet"); err != nil {
		return nil, err
	}
	if strings.TrimSpace(selector) == "" {
		return nil, errors.New("kube-fleet: no label selector is given")
	}
	f := &Fleet{newFollower[*nodeObject](o, nodesPath, url.Values{"labelSelector": {selector}})}
	f.objects.exact, f.objects.page, f.objects.most, f.objects.reduce = true, fleetPage, MaxFleet, reduceMember
	return f, nil
}

const nodesPath = "/api/v1/nodes"

// reduceMember keeps what a Member needs.
func reduceMember(o *nodeObject) {
	m := &o.Metadata
	m.ManagedFields, m.Labels, m.Annotations = nil, pick(m.Labels, labelZone), ownOnly(m.Annotations, OwnMark)
	o.Status.Conditions = slices.DeleteFunc(o.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type != corev1.NodeReady })
	for i := range o.Status.Conditions {
		o.Status.Conditions[i] = corev1.NodeCondition{Type: corev1.NodeReady, Status: o.Status.Conditions[i].Status}
	}
	o.Status.Conditions = slices.Clone(o.Status.Conditions)
	o.mounted, o.Status.VolumesInUse = len(o.Status.VolumesInUse), nil
}

// Run watches until ctx ends.
func (f *Fleet) Run(ctx context.Context) { f.objects.run(ctx) }

// Changed is closed when something is learned, or fails.
func (f *Fleet) Changed() <-chan struct{} { return f.objects.next() }

// Each visits the nodes as the API server had them last, in no order; false before the first answer. It never waits for the
// API server, and everybody else waits for visit. Nobody may change what a Member refers to.
func (f *Fleet) Each(visit func(Member)) bool {
	f.objects.mu.Lock()
	defer f.objects.mu.Unlock()
	for _, o := range f.objects.objects {
		visit(o.member())
	}
	return f.objects.objects != nil
}

// Find is one of the nodes, by UID.
func (f *Fleet) Find(uid string) (Member, bool) {
	f.objects.mu.Lock()
	defer f.objects.mu.Unlock()
	o, has := f.objects.objects[uid]
	if !has {
		return Member{}, false
	}
	return o.member(), true
}

// Health says whether the watch works.
func (f *Fleet) Health() providers.Health {
	f.objects.mu.Lock()
	defer f.objects.mu.Unlock()
	h := providers.Health{Source: "kube-fleet", OK: f.objects.objects != nil && f.objects.err == nil, LastAnswer: f.objects.heardAt, Skew: f.objects.skew}
	switch {
	case f.objects.err != nil:
		h.Error = f.objects.err.Error()
	case f.objects.objects == nil:
		h.Error = errNoAnswer.Error()
	}
	return h
}

func (o *nodeObject) member() Member {
	return Member{NodeState: o.state(), Zone: o.Metadata.Labels[labelZone], Mounted: o.mounted}
}

// Member reads one node now. ErrNotFound: it has no object.
func (c *Cluster) Member(ctx context.Context, name string) (Member, error) {
	var o nodeObject
	if err := c.Do(ctx, Request{Method: http.MethodGet, Path: nodesPath + "/" + name, Out: &o}); err != nil {
		return Member{}, err
	}
	if o.Metadata.UID == "" || o.Metadata.Name != name {
		return Member{}, fmt.Errorf("kubernetes: node %s: the answer is another object", name)
	}
	reduceMember(&o)
	return o.member(), nil
}
