package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lifeboat/lifeboat/providers/kube"
)

// ClaimMark is what is written on a claim, and all that it takes to do so later, by another run of the agent too.
type ClaimMark struct {
	Namespace string        `json:"namespace"`
	Claim     string        `json:"claim"`
	UID       string        `json:"uid,omitempty"`  // of the claim; "" as long as it was not read
	Part      bool          `json:"part,omitempty"` // only a folder of the volume is mounted
	App       string        `json:"app"`
	Executor  string        `json:"executor"`
	Driver    kube.OwnerRef `json:"driver"`
	Report    string        `json:"report"`
	Node      string        `json:"node"`
	At        time.Time     `json:"at"`
	Outputs   string        `json:"outputs"` // see FormatOutputs
	Complete  bool          `json:"complete"`
	Hide      bool          `json:"hide,omitempty"` // from Spark, if its volume can't leave the node
}

func (m *ClaimMark) path() string { return claimPath(m.Namespace, m.Claim) }

func claimPath(namespace, name string) string {
	return "/api/v1/namespaces/" + url.PathEscape(namespace) + "/persistentvolumeclaims/" + url.PathEscape(name)
}

// claimObject is what is needed of a claim.
type claimObject struct {
	Metadata metav1.ObjectMeta `json:"metadata"`
	Spec     struct {
		VolumeName string `json:"volumeName"`
	} `json:"spec"`
}

// selector is Spark's label, whether or not it is hidden.
func (o *claimObject) selector() (app string, hidden bool) {
	if app, has := o.Metadata.Labels[kube.LabelApp]; has {
		return app, false
	}
	app, hidden = o.Metadata.Annotations[kube.HiddenSelector]
	return app, hidden
}

// volumeObject is what is needed of a volume.
type volumeObject struct {
	Spec struct {
		NodeAffinity *corev1.VolumeNodeAffinity   `json:"nodeAffinity"`
		HostPath     *corev1.HostPathVolumeSource `json:"hostPath"`
		Local        *corev1.LocalVolumeSource    `json:"local"`
	} `json:"spec"`
}

// folder is where the volume is on its machine; "" when that is not for the node to see.
func (o *volumeObject) folder() string {
	switch {
	case o.Spec.Local != nil:
		return o.Spec.Local.Path
	case o.Spec.HostPath != nil:
		return o.Spec.HostPath.Path
	}
	return ""
}

// tied says that the volume can be used on one node only, and that it is this one: whatever alternative its affinity has,
// names it. A volume without an affinity, a host's folder too, keeps no pod waiting.
func (o *volumeObject) tied(node string) bool {
	if o.Spec.NodeAffinity == nil || o.Spec.NodeAffinity.Required == nil {
		return false
	}
	terms := o.Spec.NodeAffinity.Required.NodeSelectorTerms
	names := func(r corev1.NodeSelectorRequirement) bool {
		return r.Operator == corev1.NodeSelectorOpIn && len(r.Values) == 1 && r.Values[0] == node
	}
	return len(terms) > 0 && !slices.ContainsFunc(terms, func(t corev1.NodeSelectorTerm) bool {
		return !slices.ContainsFunc(slices.Concat(t.MatchExpressions, t.MatchFields), names)
	})
}

// errStrange says that a claim is not the application's own.
var errStrange = errors.New("the claim belongs to another application")

// mark writes the mark, and hides the claim where that is wanted and its volume can't leave the node. It changes m: what was
// learned of the claim. Of a claim that has changed since it was read nothing is overwritten.
func (m *ClaimMark) mark(ctx context.Context, api doer) (hidden bool, err error) {
	for range 3 {
		var o claimObject
		if err := api.Do(ctx, kube.Request{Method: http.MethodGet, Path: m.path(), Out: &o}); err != nil {
			return false, err
		}
		if err := m.check(&o); err != nil {
			return false, err
		}
		patch, err := m.patch(ctx, api, &o)
		if err != nil {
			return false, err
		}
		_, hidden = o.selector()
		if _, hides := patch.annotations[kube.HiddenSelector]; hides {
			hidden = true
		}
		err = api.Do(ctx, patch.request(m.path(), &o))
		if errors.Is(err, kube.ErrForbidden) && patch.owner != nil {
			// Some clusters let only those set an owner who may delete what it owns (OwnerReferencesPermissionEnforcement).
			patch.disown()
			hidden = false
			err = api.Do(ctx, patch.request(m.path(), &o))
		}
		if !errors.Is(err, kube.ErrConflict) {
			return hidden, err
		}
	}
	return false, fmt.Errorf("claim %s/%s changes all the time: %w", m.Namespace, m.Claim, kube.ErrConflict)
}

// check makes sure that it is the claim that is meant.
func (m *ClaimMark) check(o *claimObject) error {
	app, _ := o.selector()
	switch {
	case m.UID != "" && string(o.Metadata.UID) != m.UID:
		return fmt.Errorf("%w: the claim is another one of the same name", errPointless)
	case o.Metadata.DeletionTimestamp != nil:
		return fmt.Errorf("%w: the claim is being deleted", errPointless)
	case app != "" && app != m.App:
		return fmt.Errorf("%w: %w", errPointless, errStrange)
	case m.Part && app == "":
		return fmt.Errorf("%w: only a part of a volume that Spark has not made is mounted", errPointless)
	}
	m.UID = string(o.Metadata.UID)
	return nil
}

// claimPatch is what changes on a claim. A nil value takes a key away.
type claimPatch struct {
	labels, annotations map[string]any
	owner               *metav1.OwnerReference
}

// request makes a merge patch that fails when the claim has changed since it was read.
func (p *claimPatch) request(path string, o *claimObject) kube.Request {
	meta := map[string]any{"uid": o.Metadata.UID, "resourceVersion": o.Metadata.ResourceVersion, "labels": p.labels, "annotations": p.annotations}
	if p.owner != nil {
		meta["ownerReferences"] = []metav1.OwnerReference{*p.owner}
	}
	return kube.Request{Method: http.MethodPatch, Path: path, Patch: kube.MergePatch, In: map[string]any{"metadata": meta}}
}

// disown leaves the owner out, and with it what is only done to claims that have one.
func (p *claimPatch) disown() {
	p.owner = nil
	delete(p.labels, kube.LabelApp)
	delete(p.annotations, kube.HiddenSelector)
}

func (m *ClaimMark) patch(ctx context.Context, api doer, o *claimObject) (*claimPatch, error) {
	state := kube.StatePartial
	if m.Complete {
		state = kube.StateComplete
	}
	p := &claimPatch{
		labels: map[string]any{kube.ClaimExecutor: m.Executor, kube.ClaimState: state},
		annotations: map[string]any{
			kube.ClaimOutputs: m.Outputs, kube.ClaimMarkedBy: m.Node, kube.ClaimMarkedAt: m.At.UTC().Format(time.RFC3339),
			kube.ClaimReport: m.Report,
		},
	}
	app, hidden := o.selector()
	if app == "" {
		return p, nil // made by a person: what becomes of it is not for us to say
	}
	if len(o.Metadata.OwnerReferences) == 0 {
		var err error
		if p.owner, err = m.owner(ctx, api); err != nil {
			return nil, err
		}
	}
	// What is hidden Spark does not remove when the application ends: somebody else must.
	owned := len(o.Metadata.OwnerReferences) > 0 || p.owner != nil
	if !m.Hide || !owned || hidden || o.Spec.VolumeName == "" {
		return p, nil
	}
	var v volumeObject
	err := api.Do(ctx, kube.Request{Method: http.MethodGet, Path: "/api/v1/persistentvolumes/" + url.PathEscape(o.Spec.VolumeName), Out: &v})
	switch {
	case errors.Is(err, kube.ErrNotFound), errors.Is(err, kube.ErrForbidden): // the mark counts without it
	case err != nil:
		return nil, err
	case v.tied(m.Node):
		p.labels[kube.LabelApp], p.annotations[kube.HiddenSelector] = nil, app
	}
	return p, nil
}

// owner is the driver's pod as Spark writes it, if there is one and it lives: what belongs to an owner that has gone is
// deleted.
func (m *ClaimMark) owner(ctx context.Context, api doer) (*metav1.OwnerReference, error) {
	if m.Driver.Kind != "Pod" || m.Driver.UID == "" {
		return nil, nil
	}
	var driver struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
	}
	path := "/api/v1/namespaces/" + url.PathEscape(m.Namespace) + "/pods/" + url.PathEscape(m.Driver.Name)
	err := api.Do(ctx, kube.Request{Method: http.MethodGet, Path: path, Out: &driver})
	switch {
	case errors.Is(err, kube.ErrNotFound), err == nil && (string(driver.Metadata.UID) != m.Driver.UID || driver.Metadata.DeletionTimestamp != nil):
		return nil, nil
	case err != nil:
		return nil, err
	}
	controller := true
	return &metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: m.Driver.Name, UID: driver.Metadata.UID, Controller: &controller}, nil
}

// offer shows a claim to Spark again that this node has hidden. here says whether a folder is there on this machine.
func (m *ClaimMark) offer(ctx context.Context, api doer, here func(folder string) bool) error {
	var o claimObject
	if err := api.Do(ctx, kube.Request{Method: http.MethodGet, Path: m.path(), Out: &o}); err != nil {
		return err
	}
	if err := m.check(&o); err != nil {
		return err
	}
	app, hidden := o.selector()
	if !hidden || app != m.App || o.Metadata.Annotations[kube.ClaimMarkedBy] != m.Node {
		return errPointless
	}
	var v volumeObject
	if err := api.Do(ctx, kube.Request{Method: http.MethodGet, Path: "/api/v1/persistentvolumes/" + url.PathEscape(o.Spec.VolumeName), Out: &v}); err != nil {
		return err
	}
	if folder := v.folder(); !v.tied(m.Node) || folder != "" && !here(folder) {
		return fmt.Errorf("%w: its volume is not on this machine any more", errPointless)
	}
	p := &claimPatch{labels: map[string]any{kube.LabelApp: app}, annotations: map[string]any{kube.HiddenSelector: nil}}
	return api.Do(ctx, p.request(m.path(), &o))
}
