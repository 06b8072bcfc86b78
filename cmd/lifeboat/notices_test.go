package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/status"
	"github.com/lifeboat/lifeboat/providers"
)

func TestNoticesText(t *testing.T) {
	now := time.Date(2026, 11, 21, 10, 15, 0, 0, time.UTC)
	n := providers.Notice{ID: "aws-scheduled-1", Kind: providers.Maintenance, Deadline: now.Add(26 * time.Hour)}
	pod := providers.Notice{ID: "kube-pods-1\x1b[2J", Kind: providers.Drain, App: "app-1", Executors: []string{"3"}, Deadline: now.Add(-time.Second), Drill: true}
	o := outlook{
		Agent: true,
		Sources: []status.Source{
			{Health: providers.Health{Source: "aws-scheduled", OK: true, LastAnswer: now.Add(-2 * time.Second), Skew: 130 * time.Second}, Notices: []providers.Notice{n}},
			{Health: providers.Health{Source: "kube-pods", LastAnswer: now.Add(-time.Hour), Skew: -7 * time.Second, Error: "no route"}, Notices: []providers.Notice{pod}},
			{Health: providers.Health{Source: "drill", OK: true}, Drills: true},
		},
		Handled: []status.Notice{{Notice: n, LeadsTo: "scheduled"}},
	}
	var b bytes.Buffer
	if err := o.text(&b, now); err != nil {
		t.Fatal(err)
	}
	want := `SOURCE         STATE  LAST ANSWER  CLOCK         NOTICES  ERROR
aws-scheduled  ok     2.00s ago    2m 10s ahead  1
kube-pods      down   1h 0m ago    7.00s behind  1        no route
drill          ok     never        right         0

aws-scheduled-1: maintenance of the node, deadline in 26h 0m: scheduled
kube-pods-1?[2J: drain of executors [3] of app-1 (a drill), deadline was 1.00s ago
`
	if trim(b.String()) != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// TestNoticesExitCode: a source of drills alone is none.
func TestNoticesExitCode(t *testing.T) {
	ok, down := providers.Health{Source: "file", OK: true}, providers.Health{Source: "file", Error: "no such folder"}
	for name, tt := range map[string]struct {
		sources []status.Source
		code    int
	}{
		"none":        {nil, 1},
		"works":       {[]status.Source{{Health: ok}}, 0},
		"down":        {[]status.Source{{Health: down}}, 1},
		"drills only": {[]status.Source{{Health: ok, Drills: true}}, 1},
		"one of two":  {[]status.Source{{Health: down}, {Health: ok}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := command(t, &scripted{sources: tt.sources}, "notices", "-o", "json")
			if code != tt.code || !strings.Contains(stdout, `"agent": false`) || stderr != "" {
				t.Errorf("%d %s %s", code, stdout, stderr)
			}
		})
	}
}

// TestListenComesBeforeTheConfiguration: by the flag, and by the variable, which the flag goes before.
func TestListenComesBeforeTheConfiguration(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"started": "2026-11-21T10:15:02Z"}`))
	}))
	defer page.Close()
	addr := page.Listener.Addr().String()
	for name, tt := range map[string]struct {
		variable string
		args     []string
		asked    bool
	}{
		"neither":       {"", nil, false},
		"flag":          {"", []string{"--listen", addr}, true},
		"variable":      {strings.Replace(addr, "127.0.0.1", "[127.0.0.1]", 1), nil, true},
		"flag and more": {"127.0.0.1:1", []string{"--listen", addr}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(envListen, tt.variable)
			code, stdout, stderr := command(t, &scripted{}, append([]string{"notices", "-o", "json"}, tt.args...)...)
			if strings.Contains(stdout, `"agent": true`) != tt.asked || stderr != "" {
				t.Errorf("%d %s %s", code, stdout, stderr)
			}
		})
	}
	code, _, stderr := command(t, &scripted{}, "notices", "--listen", "here")
	if code != exitUsage || !strings.Contains(stderr, "--listen") || !strings.Contains(stderr, "host:port") {
		t.Errorf("%d %s", code, stderr)
	}
}
