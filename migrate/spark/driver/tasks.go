package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// TaskLimit bounds what TaskCosts asks for. A field that is 0 or less means its default.
type TaskLimit struct {
	Stages int           // stages to look at, newest first; default 20
	Tasks  int           // tasks in all; default 20,000
	Time   time.Duration // for all requests together; default 5 s
}

func (l TaskLimit) withDefaults() TaskLimit {
	return TaskLimit{
		Stages: cmp.Or(max(l.Stages, 0), 20),
		Tasks:  cmp.Or(max(l.Tasks, 0), 20_000),
		Time:   cmp.Or(max(l.Time, 0), 5*time.Second),
	}
}

// Task is what one map task would cost to run again.
type Task struct {
	Executor string        // the executor that ran it
	Duration time.Duration // how long it ran
}

// taskPage is how many tasks are asked for at once: about 2 KB of JSON each.
const taskPage = 500

// stage is the part of o.a.s.status.api.v1.StageData that matters here.
type stage struct {
	ID                int   `json:"stageId"`
	Attempt           int   `json:"attemptId"`
	ShuffleWriteBytes int64 `json:"shuffleWriteBytes"`
	Complete          int   `json:"numCompleteTasks"`
}

// task is the part of o.a.s.status.api.v1.TaskData that matters here. Times are in milliseconds.
type task struct {
	ID       int64  `json:"taskId"`
	Executor string `json:"executorId"`
	Status   string `json:"status"`
	Duration int64  `json:"duration"`
	Metrics  struct {
		RunTime int64 `json:"executorRunTime"`
	} `json:"taskMetrics"`
}

// longest bounds a task's time, so that a nonsensical one can't overflow.
const longest = 365 * 24 * time.Hour

func (t task) cost() time.Duration {
	ms := cmp.Or(t.Metrics.RunTime, t.Duration)
	return time.Duration(min(max(ms, 0), longest.Milliseconds())) * time.Millisecond
}

// TaskCosts asks what the successful tasks of stages that wrote shuffle data have cost, by task id: the
// map id in the names of shuffle files. It takes the newest stages first and the longest tasks of a
// stage first, and ends without an error when a limit is reached: costs are for deciding on an order,
// and one that is missing is not worth waiting for. With an error, it also returns what it has.
func (r *REST) TaskCosts(ctx context.Context, limit TaskLimit) (map[int64]Task, error) {
	limit = limit.withDefaults()
	within, cancel := context.WithTimeout(ctx, limit.Time)
	defer cancel()
	costs := map[int64]Task{}
	err := r.taskCosts(within, limit, costs)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		err = nil
	}
	return costs, err
}

func (r *REST) taskCosts(ctx context.Context, limit TaskLimit, costs map[int64]Task) error {
	stages, err := r.shuffleStages(ctx)
	if err != nil {
		return err
	}
	for _, s := range stages[:min(len(stages), limit.Stages)] {
		if err := r.stageCosts(ctx, s, limit.Tasks, costs); err != nil {
			return err
		}
		if len(costs) >= limit.Tasks {
			return nil
		}
	}
	return nil
}

// shuffleStages lists the stages that wrote shuffle data, newest first.
func (r *REST) shuffleStages(ctx context.Context) ([]stage, error) {
	var stages []stage
	path := r.appPath("/stages?status=active&status=complete&status=failed")
	err := list(ctx, r, path, func(s stage) {
		if s.ShuffleWriteBytes > 0 && s.Complete > 0 {
			stages = append(stages, s)
		}
	})
	if err != nil && !errors.Is(err, ErrTooLarge) {
		return nil, err
	}
	slices.SortFunc(stages, func(a, b stage) int {
		return cmp.Or(cmp.Compare(b.ID, a.ID), cmp.Compare(b.Attempt, a.Attempt))
	})
	return stages, nil
}

// stageCosts adds the successful tasks of one stage, until costs has enough of them.
func (r *REST) stageCosts(ctx context.Context, s stage, enough int, costs map[int64]Task) error {
	for offset := 0; len(costs) < enough; {
		n := min(taskPage, enough-len(costs))
		path := r.appPath(fmt.Sprintf("/stages/%d/%d/taskList?offset=%d&length=%d&sortBy=-runtime&status=success",
			s.ID, s.Attempt, offset, n))
		got := 0
		err := list(ctx, r, path, func(t task) {
			if got++; got <= n && t.Status == "SUCCESS" {
				costs[t.ID] = Task{Executor: t.Executor, Duration: t.cost()}
			}
		})
		if evicted(err) {
			return nil
		}
		if err != nil || got < n {
			return err
		}
		offset += n
	}
	return nil
}

// evicted reports whether the driver has forgotten a stage since it listed it (spark.ui.retainedStages).
func evicted(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Code == http.StatusNotFound
}
