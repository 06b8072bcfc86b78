//go:build integration

package kubernetes

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	hand "github.com/lifeboat/lifeboat/agent/kube"
	"github.com/lifeboat/lifeboat/providers/kube"
)

// eventDoc is an Event as the API server has it.
type eventDoc struct {
	Reason, Message, Type string
	Count                 int
	ReportingComponent    string
	InvolvedObject        struct{ Kind, Namespace, Name, UID string }
}

// events are those about an object, by its name.
func (m *machine) events(namespace, name string) []eventDoc {
	m.t.Helper()
	var list struct{ Items []eventDoc }
	m.do(http.MethodGet, "/api/v1/namespaces/"+namespace+"/events?fieldSelector=involvedObject.name="+name, nil, &list)
	return list.Items
}

// TestEventsOnARealAPIServer: each phase once of each object, however often it is told; of a pod that has gone nothing is owed.
func TestEventsOnARealAPIServer(t *testing.T) {
	t.Parallel()
	m := newMachine(t, shared)
	driver, driverUID := m.sparkPod(object{"spark-role": "driver"}, nil, "10.9.2.1")
	m.sparkPod(executorLabels("spark-told-"+m.name), object{"apiVersion": "v1", "kind": "Pod", "name": driver, "uid": driverUID, "controller": true}, "10.9.2.2")
	h := newHand(t, newDoor(t), m, nil)
	h.until("the pod is known", func() bool { return len(h.Executors()) == 1 })
	pod := h.Executors()[0]
	about := []hand.Object{hand.PodObject(pod), hand.DriverObject(pod), h.NodeObject()}
	for range 2 {
		h.Tell("r1", hand.Began, "it begins", about...)
	}
	h.Tell("r1", hand.Lost, strings.Repeat("long ", 1000), about...)
	h.NoteRescue("r1", about[1:]...)
	other := about[0]
	other.UID = "00000000-0000-0000-0000-000000000000"
	h.NoteRescue("r1", other)
	h.until("all is said", func() bool { waiting, _ := h.Unsaid("r1"); return len(waiting) == 0 })
	if _, failed := h.Unsaid("r1"); len(failed) > 0 {
		t.Errorf("given up: %q", failed)
	}
	for _, o := range about {
		namespace := o.Namespace
		if o.Kind == "Node" {
			namespace = "default"
		}
		list := m.events(namespace, o.Name)
		slices.SortFunc(list, func(a, b eventDoc) int { return strings.Compare(a.Reason, b.Reason) })
		if len(list) != 2 || list[0].Reason != "SparkRescueBegan" || list[0].Message != "it begins" || list[0].Type != "Normal" ||
			list[1].Reason != "SparkRescueLost" || list[1].Type != "Warning" || list[0].InvolvedObject.UID != o.UID || list[0].ReportingComponent != "lifeboat" {
			t.Errorf("%s: %+v", o, list)
		}
	}
	if n := m.read(); n.Metadata.Annotations[kube.LastRescue] != "r1" {
		t.Errorf("the node: %v", n.Metadata.Annotations)
	}
	var p nodeDoc
	m.do(http.MethodGet, podPath(driver), nil, &p)
	if p.Metadata.Annotations[kube.LastRescue] != "r1" {
		t.Errorf("the driver's pod: %v", p.Metadata.Annotations)
	}
	m.do(http.MethodGet, podPath(pod.Name), nil, &p)
	if p.Metadata.Annotations[kube.LastRescue] != "" && p.Metadata.Annotations[kube.OwnMark] != "" {
		t.Errorf("another pod of the same name was annotated: %v", p.Metadata.Annotations)
	}
}

// claimDoc is a claim as the API server has it.
type claimDoc struct {
	Metadata struct {
		UID                 string
		Labels, Annotations map[string]string
		OwnerReferences     []struct{ Kind, Name, UID string }
	}
}

func claimURL(name string) string {
	return "/api/v1/namespaces/" + namespace + "/persistentvolumeclaims/" + name
}

func (m *machine) claim(name string) (c claimDoc) {
	m.t.Helper()
	m.do(http.MethodGet, claimURL(name), nil, &c)
	return c
}

// boundClaim makes a claim as Spark does, with a volume that only this machine has.
func (m *machine) boundClaim(app string) string {
	m.t.Helper()
	name := fmt.Sprintf("claim-%d", count.Add(1))
	size := object{"storage": "1Gi"}
	m.do(http.MethodPost, "/api/v1/persistentvolumes", object{"metadata": object{"name": name}, "spec": object{
		"capacity": size, "accessModes": []string{"ReadWriteOnce"}, "storageClassName": "local", "local": object{"path": "/"},
		"nodeAffinity": object{"required": object{"nodeSelectorTerms": []object{
			{"matchExpressions": []object{{"key": "kubernetes.io/hostname", "operator": "In", "values": []string{m.name}}}},
		}}},
	}}, nil)
	m.do(http.MethodPost, "/api/v1/namespaces/"+namespace+"/persistentvolumeclaims", object{
		"metadata": object{"name": name, "labels": object{kube.LabelApp: app}},
		"spec":     object{"accessModes": []string{"ReadWriteOnce"}, "storageClassName": "local", "volumeName": name, "resources": object{"requests": size}},
	}, nil)
	return name
}

func (m *machine) mark(claim, app string, driver kube.OwnerRef) hand.ClaimMark {
	return hand.ClaimMark{
		Namespace: namespace, Claim: claim, App: app, Executor: "1", Driver: driver, Report: "r1", At: time.Now(),
		Outputs: "0:0-3", Complete: true, Hide: true,
	}
}

// TestClaimOnARealAPIServer is marked, owned and hidden in one request, and shown again when the node stays.
func TestClaimOnARealAPIServer(t *testing.T) {
	t.Parallel()
	m := newMachine(t, shared)
	app := "spark-claims-" + m.name
	driver, uid := m.sparkPod(object{"spark-role": "driver"}, nil, "10.9.3.1")
	name := m.boundClaim(app)
	h := newHand(t, newDoor(t), m, nil)
	must(t, h.MarkClaim(m.mark(name, app, kube.OwnerRef{Kind: "Pod", Name: driver, UID: uid}))(t.Context()))
	c := m.claim(name).Metadata
	if c.Labels[kube.ClaimState] != kube.StateComplete || c.Labels[kube.ClaimExecutor] != "1" || c.Annotations[kube.ClaimOutputs] != "0:0-3" ||
		c.Annotations[kube.ClaimMarkedBy] != m.name || c.Annotations[kube.ClaimReport] != "r1" {
		t.Errorf("not marked: %+v", c)
	}
	if len(c.OwnerReferences) != 1 || c.OwnerReferences[0].UID != uid {
		t.Errorf("owners %+v", c.OwnerReferences)
	}
	if _, shown := c.Labels[kube.LabelApp]; shown || c.Annotations[kube.HiddenSelector] != app {
		t.Errorf("not hidden: %+v", c)
	}
	h.Withdrawn(soon.Report)
	h.until("the claim is shown again", func() bool {
		c := m.claim(name).Metadata
		_, hidden := c.Annotations[kube.HiddenSelector]
		return c.Labels[kube.LabelApp] == app && !hidden
	})
	// One that has gone is owed nothing.
	m.do(http.MethodDelete, claimURL(name)+"?gracePeriodSeconds=0", nil, nil)
	m.do(http.MethodPatch, claimURL(name), object{"metadata": object{"finalizers": nil}}, nil)
	must(t, h.MarkClaim(m.mark(name, app, kube.OwnerRef{}))(t.Context()))
}

// TestWhatIsSaidInAnOutage: an API server that hangs and then dies keeps nobody waiting, and hears everything when it is back.
func TestWhatIsSaidInAnOutage(t *testing.T) {
	t.Parallel()
	c, err := start(t.Context())
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	m := newMachine(t, c)
	app := "spark-outage"
	name := m.boundClaim(app)
	driver, uid := m.sparkPod(object{"spark-role": "driver"}, nil, "10.9.4.1")
	h := newHandOf(t, direct(t, c, c.AdminKubeconfig(), m.name), nil)
	for i, outage := range []struct {
		what       string
		begin, end func() error
	}{
		{"hangs", c.Pause, c.Resume},
		{"has gone", func() error { c.StopAPIServer(); return nil }, func() error { return c.StartAPIServer(context.Background()) }},
	} {
		report := fmt.Sprintf("r%d", i)
		must(t, outage.begin())
		began := time.Now()
		h.Tell(report, hand.Ended, "it is over", hand.Object{Kind: "Pod", Namespace: namespace, Name: driver, UID: uid}, h.NodeObject())
		mark := m.mark(name, app, kube.OwnerRef{Kind: "Pod", Name: driver, UID: uid})
		mark.Report = report
		wait, cancel := context.WithTimeout(t.Context(), hand.Patience)
		err := h.MarkClaim(mark)(wait)
		cancel()
		if took := time.Since(began); err == nil || took > 2*hand.Patience {
			t.Errorf("the API server %s: %v after %v", outage.what, err, took)
		}
		h.until("it is known that nobody answers", func() bool { return !h.Reachable() })
		if waiting, failed := h.Unsaid(report); len(waiting) != 3 || len(failed) != 0 {
			t.Errorf("the API server %s: waiting %q, failed %q", outage.what, waiting, failed)
		}
		must(t, outage.end())
		h.until("all is said", func() bool { waiting, failed := h.Unsaid(report); return len(waiting)+len(failed) == 0 })
		if c := m.claim(name).Metadata; c.Annotations[kube.ClaimReport] != report {
			t.Errorf("the claim says %v", c.Annotations)
		}
		if n := len(m.events(namespace, driver)); n != i+1 {
			t.Errorf("%d events", n)
		}
	}
}
