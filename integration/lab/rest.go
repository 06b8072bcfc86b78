package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// getJSON reads one JSON document with a deadline of its own.
func getJSON(ctx context.Context, url string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return call(ctx, http.MethodGet, url, nil, into)
}

// call makes one request and reads the JSON of its answer, unless into is nil.
func call(ctx context.Context, method, url string, body io.Reader, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusMultipleChoices {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		return fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, text)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// Stage is one attempt of a stage in the driver's REST.
type Stage struct {
	ID                int    `json:"stageId"`
	Attempt           int    `json:"attemptId"`
	Name              string `json:"name"`
	Status            string `json:"status"` // ACTIVE, COMPLETE, FAILED, PENDING, SKIPPED
	NumTasks          int    `json:"numTasks"`
	ActiveTasks       int    `json:"numActiveTasks"`
	CompleteTasks     int    `json:"numCompleteTasks"`
	FailedTasks       int    `json:"numFailedTasks"`
	KilledTasks       int    `json:"numKilledTasks"`
	ShuffleReadBytes  int64  `json:"shuffleReadBytes"`
	ShuffleWriteBytes int64  `json:"shuffleWriteBytes"`
	FailureReason     string `json:"failureReason"`
}

// IsMap says that the stage writes a shuffle of an RDD job (its name is the call site's).
func (s Stage) IsMap() bool { return strings.HasPrefix(s.Name, "partitionBy ") }

// IsReduce says that the stage reads the shuffle in a round of an RDD job.
func (s Stage) IsReduce() bool { return strings.HasPrefix(s.Name, "collect ") }

// Stages are all attempts of all stages, newest first.
func (a *App) Stages(ctx context.Context) ([]Stage, error) {
	var stages []Stage
	return stages, getJSON(ctx, a.REST+"/stages", &stages)
}

// MapTasksRun is how many map tasks have ended well since the application started, repeated ones counted
// again. A map task is a task of a stage that wrote shuffle data.
func (a *App) MapTasksRun(ctx context.Context) (int, error) {
	stages, err := a.Stages(ctx)
	n := 0
	for _, s := range stages {
		if s.ShuffleWriteBytes > 0 {
			n += s.CompleteTasks
		}
	}
	return n, err
}

// Task is one task attempt in the driver's REST.
type Task struct {
	ID       int64  `json:"taskId"` // the M of the shuffle files of a map task
	Executor string `json:"executorId"`
	Status   string `json:"status"` // SUCCESS, FAILED, KILLED, RUNNING
	Launched string `json:"launchTime"`
	Duration int64  `json:"duration"` // milliseconds
}

// Ended is when the task's end was known to the driver.
func (t Task) Ended() time.Time {
	launched, _ := time.Parse("2006-01-02T15:04:05.000GMT", t.Launched)
	return launched.Add(time.Duration(t.Duration) * time.Millisecond)
}

// MapTasks are those map tasks that have ended well, of all stages.
func (a *App) MapTasks(ctx context.Context) ([]Task, error) {
	stages, err := a.Stages(ctx)
	if err != nil {
		return nil, err
	}
	var found []Task
	for _, s := range stages {
		if s.ShuffleWriteBytes == 0 {
			continue
		}
		var tasks []Task
		url := fmt.Sprintf("%s/stages/%d/%d/taskList?length=100000&status=success", a.REST, s.ID, s.Attempt)
		if err := getJSON(ctx, url, &tasks); err != nil {
			return nil, err
		}
		found = append(found, tasks...)
	}
	return found, nil
}

// FailedFetches is how many stage attempts failed because a map output could not be fetched.
func (a *App) FailedFetches(ctx context.Context) (int, error) {
	stages, err := a.Stages(ctx)
	n := 0
	for _, s := range stages {
		if strings.Contains(s.FailureReason, "FetchFailed") {
			n++
		}
	}
	return n, err
}

// WaitStage waits until some stage attempt is as the test needs it, and returns that.
func (a *App) WaitStage(ctx context.Context, what string, is func(Stage) bool) (Stage, error) {
	var found Stage
	err := a.proc.waitFor(ctx, what, func(ctx context.Context) (bool, error) {
		stages, err := a.Stages(ctx)
		if err != nil {
			return false, err
		}
		for _, s := range stages {
			if is(s) {
				found = s
				return true, nil
			}
		}
		return false, nil
	})
	return found, err
}

// Executor is an executor in the driver's REST.
type Executor struct {
	ID          string `json:"id"`
	HostPort    string `json:"hostPort"` // of its block manager
	Active      bool   `json:"isActive"`
	ActiveTasks int    `json:"activeTasks"`
	TotalCores  int    `json:"totalCores"`
	RDDBlocks   int    `json:"rddBlocks"`
	MemoryUsed  int64  `json:"memoryUsed"`
	DiskUsed    int64  `json:"diskUsed"`
}

// Host is the executor's host as Spark knows it.
func (e Executor) Host() string {
	host, _, _ := net.SplitHostPort(e.HostPort)
	return host
}

// Port is the port of its block manager.
func (e Executor) Port() int {
	_, port, _ := net.SplitHostPort(e.HostPort)
	n, _ := strconv.Atoi(port)
	return n
}

// Executors are the living executors without the driver; with dead ones if all is set.
func (a *App) Executors(ctx context.Context, all bool) ([]Executor, error) {
	path := "/executors"
	if all {
		path = "/allexecutors"
	}
	var got, found []Executor
	if err := getJSON(ctx, a.REST+path, &got); err != nil {
		return nil, err
	}
	for _, e := range got {
		if e.ID != "driver" && (e.Active || all) {
			found = append(found, e)
		}
	}
	return found, nil
}

// ExecutorsOn are the living executors on one host.
func (a *App) ExecutorsOn(ctx context.Context, host string) ([]Executor, error) {
	all, err := a.Executors(ctx, false)
	var found []Executor
	for _, e := range all {
		if e.Host() == host {
			found = append(found, e)
		}
	}
	return found, err
}

// WaitExecutors waits until so many executors are registered, with their block managers, which come later.
func (a *App) WaitExecutors(ctx context.Context, n int) error {
	what := fmt.Sprintf("%d executors are registered", n)
	return a.proc.waitFor(ctx, what, func(ctx context.Context) (bool, error) {
		got, err := a.Executors(ctx, false)
		got = slices.DeleteFunc(got, func(e Executor) bool { return e.Port() == 0 })
		return len(got) >= n, err
	})
}

// WaitGone waits until the driver has lost all executors of a host.
func (a *App) WaitGone(ctx context.Context, host string) error {
	return a.proc.waitFor(ctx, "the executors of "+host+" are lost", func(ctx context.Context) (bool, error) {
		got, err := a.ExecutorsOn(ctx, host)
		return err == nil && len(got) == 0, err
	})
}
