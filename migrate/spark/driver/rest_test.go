package driver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/migrate/spark/java"
)

// recorded are answers of real drivers of these versions, for these applications.
var recorded = []struct {
	version, app string
	peers        []java.BlockManagerID
	costs        map[int64]Task // of two of its nine map tasks
}{
	{"3.5.9", "app-20261121114537-0000", []java.BlockManagerID{executor("2", "127.0.0.1", 37463), executor("1", "127.0.0.1", 39791), executor("0", "127.0.0.1", 40695)}, map[int64]Task{0: {"0", 2650 * time.Millisecond}, 6: {"2", 416 * time.Millisecond}}},
	{"4.3.0", "app-20261121114236-0000", []java.BlockManagerID{executor("2", "127.0.0.1", 35637), executor("1", "127.0.0.1", 33141), executor("0", "127.0.0.1", 41475)}, map[int64]Task{2: {"1", 11132 * time.Millisecond}, 7: {"2", 744 * time.Millisecond}}},
}

func executor(id, host string, port int) java.BlockManagerID {
	return java.BlockManagerID{Executor: id, Host: host, Port: port}
}

// driverUI serves the recorded answers below testdata as the driver's user interface.
func driverUI(t *testing.T, version, app string) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	serve := func(path, name string) {
		mux.HandleFunc("GET /api/v1"+path, func(w http.ResponseWriter, _ *http.Request) {
			data, err := os.ReadFile(filepath.Join("testdata", version, name+".json"))
			if err != nil {
				t.Error(err)
			}
			fmt.Fprintf(w, "%s", data)
		})
	}
	serve("/version", "version")
	serve("/applications/"+app, "application")
	serve("/applications/"+app+"/executors", "executors")
	serve("/applications/"+app+"/stages", "stages")
	serve("/applications/"+app+"/stages/0/0/taskList", "tasks-0")
	serve("/applications/"+app+"/stages/1/0/taskList", "tasks-1")
	return start(t, mux)
}

func start(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func portOf(t *testing.T, s *httptest.Server) int {
	t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, _ := strconv.Atoi(u.Port())
	return port
}

// restOf is the REST interface of one server, without the search.
func restOf(t *testing.T, s *httptest.Server, app string) *REST {
	t.Helper()
	r := newREST(&net.Dialer{}, "127.0.0.1", portOf(t, s), app, restConnect, restTimeout)
	t.Cleanup(r.Close)
	return r
}

// freePort is a port where nothing listens.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestRecordedAnswers(t *testing.T) {
	for _, rec := range recorded {
		t.Run(rec.version, func(t *testing.T) {
			other := driverUI(t, "3.5.9", "another-app")
			notSpark := start(t, http.NotFoundHandler())
			ui := driverUI(t, rec.version, rec.app)
			r, err := FindREST(t.Context(), &net.Dialer{}, "127.0.0.1", rec.app,
				[]int{freePort(t), portOf(t, other), portOf(t, notSpark), portOf(t, ui)})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if r.URL() != ui.URL {
				t.Errorf("found %s, want %s", r.URL(), ui.URL)
			}
			if v, err := r.Version(t.Context()); err != nil || v != rec.version {
				t.Errorf("version %q, %v", v, err)
			}
			checkExecutors(t, r, rec.peers)
			checkCosts(t, r, rec.costs)
		})
	}
}

func checkExecutors(t *testing.T, r *REST, want []java.BlockManagerID) {
	t.Helper()
	executors, err := r.Executors(t.Context())
	if err != nil || len(executors) != len(want) {
		t.Fatalf("%d executors, %v", len(executors), err)
	}
	for i, e := range executors {
		if id, ok := e.BlockManager(); !ok || id != want[i] || !e.IsActive || e.TotalCores != 1 {
			t.Errorf("executor %+v", e)
		}
	}
}

func checkCosts(t *testing.T, r *REST, want map[int64]Task) {
	t.Helper()
	costs, err := r.TaskCosts(t.Context(), TaskLimit{})
	if err != nil || len(costs) != 9 {
		t.Fatalf("%d costs, %v", len(costs), err)
	}
	for id, task := range want {
		if costs[id] != task {
			t.Errorf("task %d: %v", id, costs[id])
		}
	}
}

func TestFindRESTFindsNothing(t *testing.T) {
	other := driverUI(t, "3.5.9", "another-app")
	// Knows every application, as a history server behind the port might, but answers with another's id.
	liar := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"id":"x"}`) }))
	r, err := FindREST(t.Context(), &net.Dialer{}, "127.0.0.1", "app-1", []int{portOf(t, other), portOf(t, liar), freePort(t)})
	if r != nil || !errors.Is(err, ErrNoREST) || errors.Is(err, ErrGone) {
		t.Errorf("%v, %v", r, err)
	}
}

func TestFindRESTAsksDefaultPorts(t *testing.T) {
	var asked atomic.Int64
	d := dialFunc(func(_ context.Context, _, addr string) (net.Conn, error) {
		asked.Add(1)
		if !strings.HasPrefix(addr, "[fd00::1]:40") {
			t.Errorf("dialled %s", addr)
		}
		return nil, errors.New("no route")
	})
	for _, host := range []string{"fd00::1", "[fd00::1]"} {
		if _, err := FindREST(t.Context(), d, host, "app-1", nil); !errors.Is(err, ErrNoREST) {
			t.Error(err)
		}
	}
	if asked.Load() != 32 {
		t.Errorf("asked %d ports", asked.Load())
	}
}

type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

func (f dialFunc) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return f(ctx, network, addr)
}

func TestFindRESTEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	d := dialFunc(func(ctx context.Context, _, _ string) (net.Conn, error) {
		cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	})
	if _, err := FindREST(ctx, d, "h", "app-1", nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestRESTErrors(t *testing.T) {
	elsewhere := driverUI(t, "4.3.0", "app-1")
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    error // nil: any error but ErrGone and ErrSlow
		code    int   // of the *StatusError; 0 for other errors
	}{
		"unknown app": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "unknown app: app-1", http.StatusNotFound)
		}, ErrGone, 404},
		"server error": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "boom", http.StatusInternalServerError)
		}, nil, 500},
		"redirect to another host": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusFound)
		}, nil, 302},
		"redirects in a circle": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		}, nil, 302},
		"endless": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `[{"id":"`)
			for chunk := []byte(strings.Repeat("x", 1<<20)); ; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, ErrTooLarge, 0},
		"no JSON":  {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, nil, 0},
		"no array": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }, nil, 0},
		"cut":      {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `[{"id":"1","isActive":true}`) }, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			executors, err := restOf(t, start(t, c.handler), "app-1").Executors(t.Context())
			switch {
			case c.want != nil && !errors.Is(err, c.want):
				t.Errorf("%v", err)
			case c.want == nil && (err == nil || errors.Is(err, ErrGone) || errors.Is(err, ErrSlow)):
				t.Errorf("%v", err)
			}
			var status *StatusError
			if isStatus := errors.As(err, &status); isStatus != (c.code != 0) ||
				isStatus && *status != (StatusError{"/api/v1/applications/app-1/executors", c.code}) {
				t.Errorf("%v, want status %d", err, c.code)
			}
			if executors != nil {
				t.Errorf("half an answer: %v", executors)
			}
		})
	}
}

func TestRESTGoneAndSlow(t *testing.T) {
	s := start(t, http.NotFoundHandler())
	r := restOf(t, s, "app-1")
	s.Close()
	if _, err := r.Executors(t.Context()); !errors.Is(err, ErrGone) || errors.Is(err, ErrSlow) {
		t.Errorf("closed port: %v", err)
	}
	hang := start(t, http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }))
	slow := restOf(t, hang, "app-1")
	slow.timeout = 20 * time.Millisecond
	if _, err := slow.Version(t.Context()); !errors.Is(err, ErrSlow) || errors.Is(err, ErrGone) {
		t.Errorf("own cap: %v", err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, errors.New("the node goes"))
	defer cancel()
	if _, err := restOf(t, hang, "app-1").Version(ctx); !errors.Is(err, ErrSlow) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("caller's deadline: %v", err)
	}
}

// stagesOf serves stages of so many tasks each, the newest last, and counts the pages asked for.
func stagesOf(t *testing.T, pages *atomic.Int64, tasks ...int) *REST {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/applications/app-1/stages", func(w http.ResponseWriter, _ *http.Request) {
		var all []string
		for id, n := range tasks {
			all = append(all, fmt.Sprintf(`{"stageId":%d,"attemptId":0,"shuffleWriteBytes":1,"numCompleteTasks":%d}`, id, n))
		}
		fmt.Fprintf(w, "[%s]", strings.Join(all, ","))
	})
	mux.HandleFunc("GET /api/v1/applications/app-1/stages/{id}/0/taskList", func(w http.ResponseWriter, r *http.Request) {
		pages.Add(1)
		id, _ := strconv.Atoi(r.PathValue("id"))
		offset, _ := strconv.Atoi(r.FormValue("offset"))
		length, _ := strconv.Atoi(r.FormValue("length"))
		var all []string
		for i := offset; i < min(offset+length, tasks[id]); i++ {
			all = append(all, fmt.Sprintf(`{"taskId":%d,"executorId":"1","status":"SUCCESS","duration":7}`, id*10_000+i))
		}
		fmt.Fprintf(w, "[%s]", strings.Join(all, ","))
	})
	return restOf(t, start(t, mux), "app-1")
}

func TestTaskCostsLimits(t *testing.T) {
	for name, c := range map[string]struct {
		limit        TaskLimit
		tasks, pages int
		newest       bool // only the newest stage
	}{
		"no limit reached":  {TaskLimit{}, 1310, 4, false},
		"stages":            {TaskLimit{Stages: 1}, 10, 1, true},
		"tasks":             {TaskLimit{Tasks: 4}, 4, 1, true},
		"tasks over stages": {TaskLimit{Tasks: 700}, 700, 3, false},
		"nonsense":          {TaskLimit{-1, -1, -1}, 1310, 4, false},
	} {
		var pages atomic.Int64
		costs, err := stagesOf(t, &pages, 1300, 10).TaskCosts(t.Context(), c.limit)
		if err != nil || len(costs) != c.tasks || int(pages.Load()) != c.pages {
			t.Errorf("%s: %d tasks in %d pages, %v", name, len(costs), pages.Load(), err)
		}
		for id, task := range costs {
			if c.newest && id < 10_000 || task != (Task{"1", 7 * time.Millisecond}) {
				t.Errorf("%s: task %d: %v", name, id, task)
			}
		}
	}
}

func TestTaskCostsTime(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/applications/app-1/stages", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `[{"stageId":1,"shuffleWriteBytes":1,"numCompleteTasks":1},{"stageId":0,"shuffleWriteBytes":1,"numCompleteTasks":1},
			{"stageId":5,"shuffleWriteBytes":0,"numCompleteTasks":9},{"stageId":3,"shuffleWriteBytes":1,"numCompleteTasks":2}]`)
	})
	mux.HandleFunc("GET /api/v1/applications/app-1/stages/1/0/taskList", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `[{"taskId":1,"executorId":"1","status":"SUCCESS","duration":7,"taskMetrics":{"executorRunTime":5}},
			{"taskId":2,"executorId":"1","status":"FAILED","duration":7},{"taskId":3,"executorId":"2","status":"SUCCESS","duration":-9},
			{"taskId":4,"executorId":"2","status":"SUCCESS","duration":9223372036854775807}]`)
	})
	ctx, cancel := context.WithCancel(t.Context())
	mux.HandleFunc("GET /api/v1/applications/app-1/stages/0/0/taskList", func(_ http.ResponseWriter, r *http.Request) {
		cancel() // ends the first check; in the second, its own limit does
		<-r.Context().Done()
	})
	r := restOf(t, start(t, mux), "app-1")
	want := map[int64]Task{1: {"1", 5 * time.Millisecond}, 3: {"2", 0}, 4: {"2", longest}}
	check := func(ctx context.Context, limit time.Duration, wantErr error) {
		t.Helper()
		costs, err := r.TaskCosts(ctx, TaskLimit{Time: limit})
		if !errors.Is(err, wantErr) || len(costs) != len(want) {
			t.Errorf("%v, %v", costs, err)
		}
		for id, task := range want {
			if costs[id] != task {
				t.Errorf("task %d: %v", id, costs[id])
			}
		}
	}
	check(ctx, time.Minute, context.Canceled)
	check(t.Context(), time.Second, nil)
}
