package kube

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lifeboat/lifeboat/providers"
)

// Node is the source "kube-node": what is said about this node on its Node object. A cordon is a notice of its own kind;
// disruption taints, the kubelet's shutdown and the object's deletion are others. Each is withdrawn when an answer
// shows the node without it, and only then.
type Node struct {
	source
	o       Options
	taints  []Taint
	objects *follower[*nodeObject]
	logged  map[string]bool // taints that only the log knows of; only polls use it
}

// nodeObject is what is needed of a Node.
type nodeObject struct {
	Metadata metadata `json:"metadata"`
	Spec     struct {
		Unschedulable bool           `json:"unschedulable"`
		Taints        []corev1.Taint `json:"taints"`
	} `json:"spec"`
	Status struct {
		Conditions []corev1.NodeCondition `json:"conditions"`
		NodeInfo   struct {
			BootID string `json:"bootID"`
		} `json:"nodeInfo"`
		VolumesInUse []string `json:"volumesInUse"`
	} `json:"status"`

	mounted int // how many volumes are in use

	// When the fields were written last, by the API server's clock; zero when it does not tell.
	taintsWritten, cordonWritten time.Time
}

// meta of an object that is null is empty.
func (o *nodeObject) meta() *metadata {
	if o == nil {
		return &metadata{}
	}
	return &o.Metadata
}

// NewNode checks the options; it opens no connection.
func NewNode(o Options) (*Node, error) {
	if err := o.check(NodeName); err != nil {
		return nil, err
	}
	n := &Node{o: o, taints: append(slices.Clone(o.Taints), DisruptionTaints()...), logged: make(map[string]bool)}
	n.objects = newFollower[*nodeObject](o, "/api/v1/nodes", url.Values{"fieldSelector": {"metadata.name=" + o.Node}})
	n.objects.exact = true
	n.objects.reduce = n.reduce
	n.source = source{name: NodeName, follow: n.objects.run, look: n.look, heard: n.objects.heard}
	return n, n.start(o, n.objects.wake)
}

// reduce keeps what is used, and of the fields' history two times.
func (n *Node) reduce(o *nodeObject) {
	o.taintsWritten = written(o.Metadata.ManagedFields, "f:taints")
	o.cordonWritten = written(o.Metadata.ManagedFields, "f:unschedulable")
	o.Metadata.ManagedFields, o.Metadata.Labels, o.Status.VolumesInUse = nil, nil, nil
	o.Metadata.Annotations = ownOnly(o.Metadata.Annotations, n.o.OwnMark)
	o.Status.Conditions = slices.DeleteFunc(o.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type != corev1.NodeReady })
}

// written is when a field of the spec was written last.
func written(fields []metav1.ManagedFieldsEntry, field string) time.Time {
	var last time.Time
	for _, f := range fields {
		if f.Time == nil || f.FieldsV1 == nil || f.Subresource != "" {
			continue
		}
		var names struct {
			Spec map[string]json.RawMessage `json:"f:spec"`
		}
		if json.Unmarshal(f.FieldsV1.Raw, &names) != nil {
			continue
		}
		if _, has := names.Spec[field]; has && f.Time.After(last) {
			last = f.Time.Time
		}
	}
	return last
}

// look makes facts of the Node object.
func (n *Node) look(ctx context.Context) (sight, error) {
	objects, skew, err := n.objects.snapshot(ctx)
	switch {
	case err != nil:
		return sight{}, err
	case len(objects) == 0:
		return sight{}, failed(providers.Status, "there is no node %q: the name must be that of the Node object (spec.nodeName of the agent's pod)", n.o.Node)
	}
	node := objects[0] // a name has one object; that of a machine that registers again comes after the end of the old one
	n.record(node)
	return sight{facts: n.facts(node), skew: skew, ended: func(string) bool { return true }}, nil
}

// facts are what stands on the node now.
func (n *Node) facts(o *nodeObject) []fact {
	uid := o.Metadata.UID
	var all []fact
	add := func(what string, f fact) {
		f.identity = uid + "/" + what + "/" + f.said
		f.what = plain(uid) + "-" + what
		all = append(all, f)
	}
	if o.Spec.Unschedulable && !n.ours(o) {
		add("cordon", fact{kind: providers.Cordon, at: o.cordonWritten, vague: true})
	}
	for _, t := range o.Spec.Taints {
		means, known := n.meaning(t)
		if !known || means.Kind == "" {
			continue
		}
		f := fact{kind: means.Kind, lead: means.Lead, at: o.taintsWritten, vague: true}
		if named := unixTime(t.Value); !named.IsZero() {
			f.at, f.vague = named, false
		}
		if t.Value != "" {
			f.said = plain(t.Value)
		}
		if t.TimeAdded != nil {
			f.at, f.vague = t.TimeAdded.Time, false
			f.said = strings.TrimPrefix(f.said+"-"+stamp(f.at), "-")
		}
		add(plain(t.Key), f)
	}
	if at := o.Metadata.DeletionTimestamp; at != nil {
		add("deletion", fact{kind: providers.Drain, at: at.Time, lead: DeletionLead, said: stamp(at.Time)})
	}
	if f, is := shutdown(o); is {
		f.lead = n.o.ShutdownLead
		add("shutdown", f)
	}
	// What names no time itself is told from the next one of its kind by when the API server has written it. The identity
	// has no part of that: the fields are also written for other reasons.
	for i := range all {
		if f := &all[i]; f.said == "" && !f.at.IsZero() && !f.unclear {
			f.said = stamp(f.at)
		}
	}
	return all
}

// shutdown reads the condition Ready. While the node shuts down, the kubelet says so in the message (nodeshutdown.
// Manager.ShutdownStatus, nodestatus.ReadyCondition), among other reasons for not being ready. A kubelet that has gone
// silent says nothing: then the control plane sets the status Unknown.
func shutdown(o *nodeObject) (fact, bool) {
	for _, c := range o.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		switch {
		case c.Status == corev1.ConditionUnknown:
			return fact{unclear: true}, true
		case c.Status == corev1.ConditionFalse && strings.Contains(c.Message, "node is shutting down"):
			return fact{kind: providers.Drain, at: c.LastTransitionTime.Time, ours: true}, true
		}
	}
	return fact{}, false
}

// ours says whether the cordon is a part of a rescue. A rescue that found the node cordoned says so in its mark.
func (n *Node) ours(o *nodeObject) bool {
	text, marked := o.Metadata.Annotations[n.o.OwnMark]
	if !marked {
		return false
	}
	m, err := ParseMark(text)
	return err != nil || m.Cordoned
}

// record logs taints that lead to nothing, once when they come and once when they go.
func (n *Node) record(o *nodeObject) {
	there := make(map[string]bool)
	for _, t := range o.Spec.Taints {
		if means, known := n.meaning(t); !known || means.Kind != "" {
			continue
		}
		there[t.Key] = true
		if !n.logged[t.Key] {
			n.logged[t.Key] = true
			n.log.Warn("somebody says that this node is dead; nothing is done about it", zap.String("taint", t.Key))
		}
	}
	for key := range n.logged {
		if !there[key] {
			delete(n.logged, key)
			n.log.Info("nobody says any more that this node is dead", zap.String("taint", key))
		}
	}
}

// stamp is a time as a part of an id.
func stamp(t time.Time) string { return t.UTC().Format("20060102T150405Z") }

// plain makes a part of an id out of a text that may hold anything.
func plain(s string) string {
	const most = 63 // of the value of a label, which taints have too
	ok := len(s) <= most && s != ""
	out := []byte(s)
	for i, c := range out {
		switch {
		case c == '/':
			out[i] = '.'
		case c < '0' && c != '-' && c != '.', c > '9' && c < 'A', c > 'Z' && c < 'a' && c != '_', c > 'z':
			ok = false
		}
	}
	if !ok {
		sum := sha256.Sum256([]byte(s))
		return hex.EncodeToString(sum[:6])
	}
	return string(out)
}
