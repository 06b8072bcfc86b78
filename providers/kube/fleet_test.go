package kube

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// page is a part of a list, after which the rest is at a token.
func page(version, rest string, names ...string) http.HandlerFunc {
	var items []string
	for _, n := range names {
		items = append(items, fmt.Sprintf(`{"metadata": {"uid": "uid-%s", "name": %q, "resourceVersion": "1",
			"labels": {"topology.kubernetes.io/zone": "z", "other": "x"}, "annotations": {"lifeboat.dev/rescue": "{}", "other": "x"}},
			"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]},
			"status": {"nodeInfo": {"bootID": "b"}, "volumesInUse": ["v1", "v2"], "images": [{"names": ["i"]}],
			"conditions": [{"type": "DiskPressure", "status": "False"}, {"type": "Ready", "status": "Unknown", "message": "long"}]}}`, n, n))
	}
	return says(200, fmt.Sprintf(`{"kind": "NodeList", "metadata": {"resourceVersion": %q, "continue": %q}, "items": [%s]}`, version, rest, strings.Join(items, ",")))
}

// fleet runs until the test ends.
func fleet(t *testing.T, steps ...http.HandlerFunc) (*Fleet, *script) {
	t.Helper()
	s := &script{steps: steps}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	f, err := NewFleet(Options{Cluster: openFor(t, server.URL), Retry: time.Millisecond}, "pool=spark")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); f.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return f, s
}

func names(f *Fleet) []string {
	var all []string
	f.Each(func(m Member) { all = append(all, m.Name) })
	slices.Sort(all)
	return all
}

// TestFleetIsListedInPages, none of which counts before the last: half a fleet looks as if the rest had been deleted.
func TestFleetIsListedInPages(t *testing.T) {
	const expired = `{"kind": "Status", "code": 410, "reason": "Expired", "message": "The provided continue parameter is too old"}`
	f, s := fleet(t, page("5", "two", "a", "b"), says(http.StatusGone, expired), page("6", "two", "a", "b"), page("6", "", "c"), hangs(""))
	await(t, "the fleet", func() bool { return f.Each(func(Member) {}) })
	if got := names(f); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("nodes: %q", got)
	}
	await(t, "the watch", func() bool { return len(s.queries()) == 5 })
	var asked []string
	for _, q := range s.queries() {
		asked = append(asked, q.Get("limit")+" "+q.Get("continue")+" "+q.Get("resourceVersion")+" "+q.Get("labelSelector"))
	}
	if want := []string{"200   pool=spark", "200 two  pool=spark", "200   pool=spark", "200 two  pool=spark", "  6 pool=spark"}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
}

// TestFleetKeepsOnlyWhatIsUsed of each node, and learns what becomes of it.
func TestFleetKeepsOnlyWhatIsUsed(t *testing.T) {
	gone := event("DELETED", `{"metadata": {"uid": "uid-a", "name": "a", "resourceVersion": "7"}}`)
	f, _ := fleet(t, page("5", "", "a", "b"), says(200, gone), hangs(""))
	await(t, "the deletion", func() bool { return slices.Equal(names(f), []string{"b"}) })
	m, has := f.Find("uid-b")
	if !has || m.Name != "b" || m.BootID != "b" || m.Zone != "z" || m.Mounted != 2 || !m.Silent() || !m.Tainted("k") || len(m.Annotations) != 1 {
		t.Errorf("got %+v", m)
	}
	o := f.objects.objects["uid-b"]
	if len(o.Metadata.Labels) != 1 || len(o.Status.Conditions) != 1 || o.Status.Conditions[0].Message != "" || o.Status.VolumesInUse != nil {
		t.Errorf("kept: %+v", o)
	}
	if _, has := f.Find("uid-a"); has {
		t.Error("a node that has gone is found")
	}
}

// TestFleetEndlessList: a page of nothing that promises more would be asked for for ever.
func TestFleetEndlessList(t *testing.T) {
	f, _ := fleet(t, page("5", "more"), page("5", "", "a"), hangs(""))
	await(t, "the next attempt", func() bool { return slices.Equal(names(f), []string{"a"}) })
}

func TestFleetNeedsASelector(t *testing.T) {
	if _, err := NewFleet(Options{Cluster: new(Cluster)}, " "); err == nil {
		t.Error("all nodes of a cluster are looked after")
	}
}

func TestMemberIsTheOneThatWasAskedFor(t *testing.T) {
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		ok     bool
	}{
		"it":            {says(200, `{"metadata": {"name": "n", "uid": "u"}}`), true},
		"another":       {says(200, `{"metadata": {"name": "m", "uid": "u"}}`), false},
		"nothing":       {says(200, `{}`), false},
		"null":          {says(200, `null`), false},
		"a page":        {says(200, `<html>`), false},
		"not there":     {says(404, `{}`), false},
		"not permitted": {says(403, `{}`), false},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(tt.answer)
			defer server.Close()
			if _, err := openFor(t, server.URL).Member(t.Context(), "n"); (err == nil) != tt.ok {
				t.Errorf("error: %v", err)
			}
		})
	}
}
