package kube

import (
	"context"
	"net/url"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/lifeboat/lifeboat/providers"
)

// Spark's labels of a pod (org.apache.spark.deploy.k8s.Constants, 3.4 to 4.3).
const (
	labelRole = "spark-role"
	labelApp  = "spark-app-selector"
	labelExec = "spark-exec-id"
	executor  = "executor"
)

// defaultGrace is what a pod gets that names no terminationGracePeriodSeconds (Kubernetes API, PodSpec).
const defaultGrace = 30 * time.Second

// Pods is the source "kube-pods": executors on this node whose pods are being deleted or evicted. A notice is for one
// executor of one application, and its deadline is when the kubelet kills it. A pod that has gone says nothing more. A
// deletion can't be taken back; a disruption that was only announced can.
type Pods struct {
	source
	o       Options
	objects *follower[*podObject]
}

// podObject is what is needed of a Pod.
type podObject struct {
	Metadata ownerMeta `json:"metadata"`
	Spec     struct {
		NodeName                      string      `json:"nodeName"`
		TerminationGracePeriodSeconds *int64      `json:"terminationGracePeriodSeconds"`
		Containers                    []container `json:"containers"`
		Volumes                       []volume    `json:"volumes"`
	} `json:"spec"`
	Status struct {
		PodIP      string                `json:"podIP"`
		Phase      corev1.PodPhase       `json:"phase"`
		Conditions []corev1.PodCondition `json:"conditions"`
	} `json:"status"`

	seen Pod // what others see of it
}

// meta of an object that is null is empty.
func (o *podObject) meta() *metadata {
	if o == nil {
		return &metadata{}
	}
	return &o.Metadata.metadata
}

// NewPods checks the options; it opens no connection.
func NewPods(o Options) (*Pods, error) {
	if err := o.check(PodsName); err != nil {
		return nil, err
	}
	p := &Pods{o: o}
	p.objects = newFollower[*podObject](o, "/api/v1/pods", url.Values{
		"fieldSelector": {"spec.nodeName=" + o.Node}, "labelSelector": {labelRole + "=" + executor},
	})
	p.objects.reduce = p.reduce
	p.source = source{name: PodsName, follow: p.objects.run, look: p.look, heard: p.objects.heard}
	return p, p.start(o, p.objects.wake)
}

// reduce keeps what is used.
func (p *Pods) reduce(o *podObject) {
	m := &o.Metadata
	m.ManagedFields = nil
	m.Labels = pick(m.Labels, labelRole, labelApp, labelExec)
	m.Annotations = ownOnly(m.Annotations, p.o.OwnMark)
	o.seen = o.view()
	m.OwnerReferences, o.Spec.Containers, o.Spec.Volumes = nil, nil, nil
	o.Status.Conditions = slices.DeleteFunc(o.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type != corev1.DisruptionTarget })
	for i := range o.Status.Conditions {
		o.Status.Conditions[i].Message = ""
	}
}

// pick copies some entries of a map.
func pick(all map[string]string, keys ...string) map[string]string {
	some := make(map[string]string, len(keys))
	for _, k := range keys {
		if v, has := all[k]; has {
			some[k] = v
		}
	}
	return some
}

// look makes facts of the pods.
func (p *Pods) look(ctx context.Context) (sight, error) {
	objects, skew, err := p.objects.snapshot(ctx)
	if err != nil {
		return sight{}, err
	}
	s := sight{skew: skew}
	there := make(map[string]bool, len(objects))
	for _, o := range objects {
		f, condemned := p.fact(o)
		// An executor that has ended is no longer there to be spared.
		there[o.Metadata.UID] = o.Status.Phase != corev1.PodSucceeded && o.Status.Phase != corev1.PodFailed
		if condemned {
			s.facts = append(s.facts, f)
		}
	}
	s.ended = func(uid string) bool { return there[uid] }
	return s, nil
}

// fact says whether and when an executor's pod has to go.
func (p *Pods) fact(o *podObject) (fact, bool) {
	m := &o.Metadata
	_, ours := m.Annotations[p.o.OwnMark]
	over := o.Status.Phase == corev1.PodSucceeded || o.Status.Phase == corev1.PodFailed
	if ours || over || m.Labels[labelRole] != executor || m.Labels[labelApp] == "" || m.Labels[labelExec] == "" || o.Spec.NodeName != p.o.Node {
		return fact{}, false
	}
	// A pod is deleted once, so that its uid names the event.
	f := fact{identity: m.UID, what: plain(m.UID), kind: providers.Drain, app: m.Labels[labelApp], executor: m.Labels[labelExec]}
	if m.DeletionTimestamp != nil {
		f.at = m.DeletionTimestamp.Time // the grace period is a part of it (Kubernetes API, ObjectMeta)
		// With a grace of nothing the object goes at once: by force, or because the kubelet confirms that the pod has ended.
		f.last = m.DeletionGracePeriodSeconds != nil && *m.DeletionGracePeriodSeconds == 0
		return f, true
	}
	for _, c := range o.Status.Conditions {
		if c.Type != corev1.DisruptionTarget || c.Status != corev1.ConditionTrue {
			continue
		}
		f.at, f.lead = c.LastTransitionTime.Time, defaultGrace
		// The kubelet runs on this node, and writes its clock's time; everybody else is near the API server's.
		f.ours = c.Reason == corev1.PodReasonTerminationByKubelet
		if s := o.Spec.TerminationGracePeriodSeconds; s != nil {
			f.lead = time.Duration(*s) * time.Second
		}
		return f, true
	}
	return fact{}, false
}
