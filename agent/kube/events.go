package kube

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lifeboat/lifeboat/providers/kube"
)

// Reason is what an Event is about: a phase of a rescue.
type Reason string

// The phases that are told, each once of an object.
const (
	Began Reason = "SparkRescueBegan" // everything is found, and there is somewhere to go with it
	Saved Reason = "SparkRescueSaved" // the last copy is acknowledged
	Ended Reason = "SparkRescueEnded" // it has left, or the rescue of it is over
	Lost  Reason = "SparkRescueLost"  // something could not be saved
	// Adopted: what earlier executors had left on a volume counts at the executor that has it now.
	Adopted Reason = "SparkOutputsAdopted"
)

const (
	// component is what Events are reported by.
	component = "lifeboat"
	// maxMessage of an Event, in bytes (Kubernetes API, events.k8s.io/v1 Event.note).
	maxMessage = 1024
	// maxEventOf is what an Event's name repeats of its object's: names may have 253 characters (RFC 1123 subdomain).
	maxEventOf = 200
	// homeless is the namespace of Events about nodes, which have none.
	homeless = metav1.NamespaceDefault
)

// Object is something that Events and annotations are about. The zero Object is nothing: what is said of it is not said.
type Object struct{ Kind, Namespace, Name, UID string }

// PodObject is an executor's pod.
func PodObject(p kube.Pod) Object {
	return Object{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID}
}

// DriverObject is the driver's pod; nothing when the driver runs in none.
func DriverObject(p kube.Pod) Object {
	if p.Driver.Kind != "Pod" || p.Driver.Name == "" {
		return Object{}
	}
	return Object{Kind: "Pod", Namespace: p.Namespace, Name: p.Driver.Name, UID: p.Driver.UID}
}

func (o Object) String() string {
	return strings.TrimPrefix(strings.ToLower(o.Kind)+" "+o.Namespace+"/"+o.Name, "node /")
}

// path of the object itself.
func (o Object) path() string {
	if o.Kind == "Node" {
		return "/api/v1/nodes/" + url.PathEscape(o.Name)
	}
	return "/api/v1/namespaces/" + url.PathEscape(o.Namespace) + "/pods/" + url.PathEscape(o.Name)
}

// happening is one phase of one rescue.
type happening struct {
	report  string // id
	reason  Reason
	message string
	at      time.Time
	by      string // this node
}

// event makes the Event about one object. Its name follows from what it says, so that saying it again, also by the next
// run of the agent, makes no second one.
func (h happening) event(about Object) corev1.Event {
	kind := corev1.EventTypeNormal
	if h.reason == Lost {
		kind = corev1.EventTypeWarning
	}
	namespace := about.Namespace
	if namespace == "" {
		namespace = homeless
	}
	sum := sha256.Sum256([]byte(h.report + "\x00" + string(h.reason) + "\x00" + about.UID))
	of := strings.TrimRight(about.Name[:min(len(about.Name), maxEventOf)], "-.")
	at := metav1.NewTime(h.at)
	return corev1.Event{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta: metav1.ObjectMeta{
			Name: of + "." + hex.EncodeToString(sum[:8]), Namespace: namespace,
			Annotations: map[string]string{kube.OwnMark: h.report},
		},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "v1", Kind: about.Kind, Namespace: about.Namespace, Name: about.Name, UID: types.UID(about.UID),
		},
		Reason: string(h.reason), Message: cut(h.message, maxMessage), Type: kind,
		Source:         corev1.EventSource{Component: component, Host: h.by},
		FirstTimestamp: at, LastTimestamp: at, Count: 1,
		ReportingController: component, ReportingInstance: h.by,
	}
}

// sendEvent writes the Event. One that is there already was written by an attempt whose answer got lost, or by an earlier
// run of the agent.
func sendEvent(ctx context.Context, api doer, e corev1.Event) error {
	err := api.Do(ctx, kube.Request{Method: http.MethodPost, Path: "/api/v1/namespaces/" + url.PathEscape(e.Namespace) + "/events", In: e})
	var refused *kube.StatusError
	if errors.As(err, &refused) {
		switch {
		case refused.Reason == string(metav1.StatusReasonAlreadyExists):
			return nil
		case refused.Code == http.StatusForbidden && strings.Contains(refused.Message, "being terminated"):
			return fmt.Errorf("%w: %w", errPointless, err) // the namespace goes, and everything in it
		}
	}
	return err
}

// annotate writes annotations on an object that still is the same one.
func annotate(ctx context.Context, api doer, of Object, annotations map[string]string) error {
	meta := map[string]any{"annotations": annotations}
	if of.UID != "" {
		meta["uid"] = of.UID
	}
	err := api.Do(ctx, kube.Request{Method: http.MethodPatch, Path: of.path(), Patch: kube.MergePatch, In: map[string]any{"metadata": meta}})
	refused := (*kube.StatusError)(nil)
	if of.UID != "" && errors.As(err, &refused) && refused.Code == http.StatusUnprocessableEntity && strings.Contains(refused.Message, "metadata.uid") {
		return fmt.Errorf("%w: %w", errPointless, err) // the name has another object
	}
	if errors.Is(err, kube.ErrConflict) && of.UID != "" {
		return fmt.Errorf("%w: %w", errPointless, err) // a merge patch conflicts only with the uid that it names
	}
	return err
}

// cut shortens a text to so many bytes, at a boundary of characters.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	const more = "…"
	return strings.ToValidUTF8(s[:most-len(more)], "") + more
}
