package kube

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Domain of all labels and annotations of this project.
const Domain = "lifeboat.dev/"

// Pod is what is known of an executor's pod on this node.
type Pod struct {
	Namespace, Name, UID, IP, Node string
	App, Executor                  string // the labels spark-app-selector and spark-exec-id
	Phase                          corev1.PodPhase
	Disrupted                      string            // reason of the condition DisruptionTarget, which announces its end; "" when it has none
	Deleting                       time.Time         // deletionTimestamp, by the API server's clock: when its grace period ends; zero: it is not being deleted
	Grace                          time.Duration     // terminationGracePeriodSeconds
	Hook                           []string          // command of the Spark container's preStop hook; nil: none
	Driver                         OwnerRef          // who has made it; zero where the driver runs in no pod
	DriverURL                      string            // SPARK_DRIVER_URL of the Spark container
	LocalDirs                      []string          // SPARK_LOCAL_DIRS of the Spark container, in its order
	Mounts                         []string          // where volumes are mounted in the Spark container
	Claims                         []ClaimMount      // all persistent volume claims that are mounted in the Spark container
	Annotations                    map[string]string // those of this project only
}

// OwnerRef is the controller of an object.
type OwnerRef struct{ Kind, Name, UID string }

// ClaimMount is a persistent volume claim where the Spark container sees it.
type ClaimMount struct {
	Claim    string // its name, in the pod's namespace
	Path     string // mountPath
	SubPath  string // subPath or subPathExpr; "" is the volume's root
	ReadOnly bool
}

// Leaving says that the pod is on its way out: its preStop hook runs now, or will in a moment.
func (p Pod) Leaving() bool {
	return !p.Deleting.IsZero() || p.Disrupted == corev1.PodReasonTerminationByKubelet
}

// Over says that the pod has ended: nothing of it runs any more.
func (p Pod) Over() bool { return p.Phase == corev1.PodSucceeded || p.Phase == corev1.PodFailed }

// Marked is the id of the rescue that has written its mark on the pod; "" when none has.
func (p Pod) Marked() string { return p.Annotations[OwnMark] }

// ownerMeta is what a pod's metadata has beyond what all objects have.
type ownerMeta struct {
	metadata
	Namespace       string                  `json:"namespace"`
	OwnerReferences []metav1.OwnerReference `json:"ownerReferences"`
}

// container is what is needed of one. Of the environment only names and plain values are read; they hold secrets, so
// nothing but what view takes is kept.
type container struct {
	Env []struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	} `json:"env"`
	Mounts    []corev1.VolumeMount `json:"volumeMounts"`
	Lifecycle *struct {
		PreStop *struct {
			Exec *corev1.ExecAction `json:"exec"`
		} `json:"preStop"`
	} `json:"lifecycle"`
}

type volume struct {
	Name  string `json:"name"`
	Claim *struct {
		Name     string `json:"claimName"`
		ReadOnly bool   `json:"readOnly"`
	} `json:"persistentVolumeClaim"`
}

// Variables that Spark sets for an executor's container (org.apache.spark.deploy.k8s.Constants ENV_EXECUTOR_ID and
// ENV_DRIVER_URL, 3.4 to 4.3; features.LocalDirsFeatureStep).
const (
	envDriverURL  = "SPARK_DRIVER_URL"
	envExecutorID = "SPARK_EXECUTOR_ID"
	envLocalDirs  = "SPARK_LOCAL_DIRS"
)

func (c *container) env(name string) (string, bool) {
	for _, e := range c.Env {
		if e.Name == name {
			return e.Value, true
		}
	}
	return "", false
}

// hook is the command of its preStop hook.
func (c *container) hook() []string {
	if c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.Exec == nil {
		return nil
	}
	return c.Lifecycle.PreStop.Exec.Command
}

// claims are the claims that it mounts.
func (c *container) claims(volumes []volume) (all []ClaimMount) {
	for _, m := range c.Mounts {
		i := slices.IndexFunc(volumes, func(v volume) bool { return v.Name == m.Name })
		if i < 0 || volumes[i].Claim == nil {
			continue
		}
		of := volumes[i].Claim
		all = append(all, ClaimMount{Claim: of.Name, Path: m.MountPath, SubPath: m.SubPath + m.SubPathExpr, ReadOnly: m.ReadOnly || of.ReadOnly})
	}
	return all
}

// view makes what others see of a pod. Its Spark container is the one that Spark told the executor's id; pods have others.
func (o *podObject) view() Pod {
	m := &o.Metadata
	p := Pod{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, IP: o.Status.PodIP, Node: o.Spec.NodeName,
		App: m.Labels[labelApp], Executor: m.Labels[labelExec], Phase: o.Status.Phase,
		Grace: defaultGrace, Annotations: m.Annotations,
	}
	if m.DeletionTimestamp != nil {
		p.Deleting = m.DeletionTimestamp.Time
	}
	if s := o.Spec.TerminationGracePeriodSeconds; s != nil {
		p.Grace = time.Duration(*s) * time.Second
	}
	for _, c := range o.Status.Conditions {
		if c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue {
			p.Disrupted = cmp.Or(c.Reason, string(c.Type))
		}
	}
	for _, r := range m.OwnerReferences {
		if r.Controller != nil && *r.Controller {
			p.Driver = OwnerRef{Kind: r.Kind, Name: r.Name, UID: string(r.UID)}
		}
	}
	for i := range o.Spec.Containers {
		c := &o.Spec.Containers[i]
		if _, is := c.env(envExecutorID); !is {
			continue
		}
		p.Hook, p.Claims = c.hook(), c.claims(o.Spec.Volumes)
		for _, m := range c.Mounts {
			p.Mounts = append(p.Mounts, m.MountPath)
		}
		p.DriverURL, _ = c.env(envDriverURL)
		if dirs, _ := c.env(envLocalDirs); dirs != "" {
			p.LocalDirs = strings.Split(dirs, ",")
		}
	}
	return p
}

// Executors are the executors' pods on this node as the API server had them last, those that have ended too. It never waits,
// and goes on knowing them while the API server is away. Nobody may change what the answer refers to.
func (p *Pods) Executors() []Pod {
	p.objects.mu.Lock()
	defer p.objects.mu.Unlock()
	all := make([]Pod, 0, len(p.objects.objects))
	for _, o := range p.objects.objects {
		all = append(all, o.seen)
	}
	slices.SortFunc(all, func(a, b Pod) int { return strings.Compare(a.UID, b.UID) })
	return all
}

// Has says whether one of them that has not ended has an address, as the API server writes it.
func (p *Pods) Has(ip string) bool {
	p.objects.mu.Lock()
	defer p.objects.mu.Unlock()
	for _, o := range p.objects.objects {
		if o.seen.IP == ip && ip != "" && !o.seen.Over() {
			return true
		}
	}
	return false
}

// Changed is closed when something is learned, or fails.
func (p *Pods) Changed() <-chan struct{} { return p.objects.next() }

// NodeState is what is known of a node.
type NodeState struct {
	Name, UID, ResourceVersion, BootID string
	Unschedulable, Deleting            bool
	ShuttingDown                       bool // the kubelet ends all pods
	Taints                             []corev1.Taint
	Annotations                        map[string]string      // those of this project only
	Ready                              corev1.ConditionStatus // "" while it has none
}

// State is this node as the API server had it last; false before the first answer, and when there is none of its name. It
// never waits. Nobody may change what the answer refers to.
func (n *Node) State() (NodeState, bool) {
	n.objects.mu.Lock()
	defer n.objects.mu.Unlock()
	for _, o := range n.objects.objects {
		return o.state(), true
	}
	return NodeState{}, false
}

// Changed is closed when something is learned, or fails.
func (n *Node) Changed() <-chan struct{} { return n.objects.next() }

// Read asks the API server for a node: any, not only this one. With fresh it is not older than this moment; else it comes from
// the API server's cache, which costs it nothing.
func (c *Cluster) Read(ctx context.Context, node string, fresh bool) (NodeState, error) {
	r := Request{Method: http.MethodGet, Path: NodePath(node), Query: url.Values{"resourceVersion": {"0"}}}
	if fresh {
		r.Query = nil
	}
	return c.nodeState(ctx, r)
}

// PatchNode applies a merge patch to a node and returns what it has become.
func (c *Cluster) PatchNode(ctx context.Context, node string, patch any) (NodeState, error) {
	return c.nodeState(ctx, Request{Method: http.MethodPatch, Path: NodePath(node), Patch: MergePatch, In: patch})
}

func (c *Cluster) nodeState(ctx context.Context, r Request) (NodeState, error) {
	var o nodeObject
	r.Out = &o
	if err := c.Do(ctx, r); err != nil {
		return NodeState{}, err
	}
	o.Metadata.Annotations = ownOnly(o.Metadata.Annotations, OwnMark)
	return o.state(), nil
}

// PodPath is where the API server has a pod.
func PodPath(namespace, name string) string {
	return "/api/v1/namespaces/" + namespace + "/pods/" + name
}

// NodePath is where the API server has a node.
func NodePath(name string) string { return "/api/v1/nodes/" + name }

func (o *nodeObject) state() NodeState {
	s := NodeState{
		Name: o.Metadata.Name, UID: o.Metadata.UID, ResourceVersion: o.Metadata.ResourceVersion, BootID: o.Status.NodeInfo.BootID,
		Unschedulable: o.Spec.Unschedulable, Deleting: o.Metadata.DeletionTimestamp != nil, Taints: o.Spec.Taints, Annotations: o.Metadata.Annotations,
	}
	f, is := shutdown(o)
	s.ShuttingDown = is && !f.unclear
	for _, c := range o.Status.Conditions {
		if c.Type == corev1.NodeReady {
			s.Ready = c.Status
		}
	}
	return s
}

// ownOnly keeps the annotations of this project, and one more.
func ownOnly(all map[string]string, more string) map[string]string {
	some := maps.Clone(all)
	maps.DeleteFunc(some, func(k, _ string) bool { return k != more && !strings.HasPrefix(k, Domain) })
	return some
}

// next is closed when something changes that is known.
func (f *follower[T]) next() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}
