package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

// AppOptions describe an application.
type AppOptions struct {
	Name             string // "": "lab"
	Cores            int    // spark.cores.max; 0: all there are
	ExecutorCores    int    // 0: 1
	ExecutorMemoryMB int    // 0: 512
	Conf             map[string]string
	Job              Job
}

// App is a running PySpark driver in client mode.
type App struct {
	ID   string // application id
	REST string // http://127.0.0.1:PORT/api/v1/applications/<ID>

	cluster *Cluster
	proc    *process
	in      *os.File
	mu      sync.Mutex
	next    int
	waiting map[int]chan answer
}

// answer is one line of the driver program.
type answer struct {
	ID      int
	App     string
	Rest    string
	Error   string
	Seconds float64
	Counted int
	Result  json.RawMessage // compared as text: its numbers have 64 bits
	Want    json.RawMessage
}

// Round is what one round of the job came to.
type Round struct {
	// MapTasks ran during the round, as the driver's REST counts them: all of them in the first round,
	// those that had to be computed again in later ones.
	MapTasks int
	Counted  int           // the same by an accumulator that each map raises; -1 for SQL
	Took     time.Duration // of the Spark job alone
	Result   string        // as JSON
	Exact    bool          // Result is what it has to be, computed without the cluster
}

// Submit starts a driver and waits until it has its SparkContext. Executors may still be starting: see
// WaitExecutors.
func (c *Cluster) Submit(ctx context.Context, o AppOptions) (*App, error) {
	if o.Name == "" {
		o.Name = "lab"
	}
	dir, err := c.mkdir("app-" + o.Name)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	a := &App{cluster: c, waiting: map[int]chan answer{0: make(chan answer, 1)}}
	hello := a.waiting[0]
	if err := a.launch(o, dir); err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.apps = append(c.apps, a)
	c.mu.Unlock()
	first, err := a.await(ctx, "the driver has started", hello)
	if err != nil {
		return nil, err
	}
	a.ID, a.REST = first.App, first.Rest+"/api/v1/applications/"+first.App
	c.printf("application %s up in %.1f s", a.ID, time.Since(start).Seconds())
	return a, nil
}

// launch starts the driver program with pipes for commands and answers.
func (a *App) launch(o AppOptions, dir string) error {
	job, err := o.Job.json()
	if err != nil {
		return err
	}
	commands, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer commands.Close()
	answers, out, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	c := a.cluster
	a.in = in
	a.proc, err = startProcess(c.spawner, processSpec{
		args: []string{c.python, filepath.Join(c.dir, "job.py"), job},
		env:  c.appEnv(o, dir), dir: dir, log: filepath.Join(dir, "log"),
		stdin: commands, extra: []*os.File{out},
	})
	if err != nil {
		return errors.Join(err, in.Close(), answers.Close())
	}
	go a.listen(answers)
	return nil
}

func (c *Cluster) appEnv(o AppOptions, dir string) []string {
	zips, _ := filepath.Glob(c.spark + "/python/lib/py4j-*.zip")
	path := c.spark + "/python"
	for _, z := range zips {
		path += ":" + z
	}
	return c.base(dir, "SPARK_LOCAL_IP=127.0.0.1", "SPARK_LOCAL_DIRS="+dir, "PYTHONPATH="+path,
		"PYSPARK_SUBMIT_ARGS="+c.submitArgs(o, dir))
}

// submitArgs are spark-submit's, quoted as PySpark's launcher splits them (shlex).
func (c *Cluster) submitArgs(o AppOptions, dir string) string {
	conf := map[string]string{
		"spark.app.name": o.Name, "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1",
		"spark.driver.memory": "512m", "spark.executor.cores": strconv.Itoa(orElse(o.ExecutorCores, 1)),
		"spark.executor.memory":                strconv.Itoa(orElse(o.ExecutorMemoryMB, 512)) + "m",
		"spark.port.maxRetries":                "64",
		"spark.sql.warehouse.dir":              filepath.Join(dir, "warehouse"),
		"spark.driver.extraJavaOptions":        c.quickJVM(),
		"spark.executor.extraJavaOptions":      c.quickJVM(), // a benchmark gives others
		"spark.ui.showConsoleProgress":         "false",
		"spark.sql.autoBroadcastJoinThreshold": "-1",
		"spark.sql.shuffle.partitions":         strconv.Itoa(orElse(o.Job.Reduces, 4)),
	}
	if o.Cores > 0 {
		conf["spark.cores.max"] = strconv.Itoa(o.Cores)
	}
	for k, v := range o.Conf {
		conf[k] = v
	}
	args := "--master " + c.Master
	for _, k := range sorted(conf) {
		args += " --conf " + strconv.Quote(k+"="+conf[k])
	}
	return args + " pyspark-shell"
}

// listen hands each answer to whoever waits for it.
func (a *App) listen(from io.ReadCloser) {
	defer from.Close()
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var got answer
		if json.Unmarshal(line, &got) != nil {
			continue
		}
		a.mu.Lock()
		if ch := a.waiting[got.ID]; ch != nil {
			ch <- got
			delete(a.waiting, got.ID)
		}
		a.mu.Unlock()
	}
}

func (a *App) send(command string, argument any) (<-chan answer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next++
	ch := make(chan answer, 1)
	a.waiting[a.next] = ch
	return ch, json.NewEncoder(a.in).Encode(map[string]any{"id": a.next, "cmd": command, "arg": argument})
}

func (a *App) await(ctx context.Context, what string, ch <-chan answer) (answer, error) {
	select {
	case got := <-ch:
		if got.Error != "" {
			return got, fmt.Errorf("wait until %s: %s\n%w", what, got.Error, a.proc.failed("driver"))
		}
		return got, nil
	case <-a.proc.done:
		return answer{}, a.proc.failed("wait until " + what)
	case <-ctx.Done():
		return answer{}, fmt.Errorf("wait until %s: %w\n%w", what, context.Cause(ctx), a.proc.failed("driver"))
	}
}

// Running is a round that has been started.
type Running struct {
	app    *App
	answer <-chan answer
	before int
	what   string
}

// StartRound starts a round and returns at once. One round runs at a time.
func (a *App) StartRound(ctx context.Context) (*Running, error) { return a.begin(ctx, "round", 0) }

// Round runs a round to its end.
func (a *App) Round(ctx context.Context) (Round, error) { return a.whole(ctx, "round", 0) }

// Cached reads the application's cached RDD, which it fills the first time. Counted says how many
// partitions were computed for that: 0 when all blocks were found. RDD jobs only.
func (a *App) Cached(ctx context.Context) (Round, error) { return a.whole(ctx, "cached", 0) }

// Fresh forgets the dataset: the next round makes another one with a new shuffle.
func (a *App) Fresh(ctx context.Context) error {
	_, err := a.whole(ctx, "fresh", 0)
	return err
}

// Previous goes back to the dataset before the last Fresh: its shuffle is still there. RDD jobs only.
func (a *App) Previous(ctx context.Context) error {
	_, err := a.whole(ctx, "previous", 0)
	return err
}

// Change gives the application another job of the same kind: the next round makes its dataset.
func (a *App) Change(ctx context.Context, job Job) error {
	text, err := job.json()
	if err != nil {
		return err
	}
	ch, err := a.send("change", json.RawMessage(text))
	if err != nil {
		return err
	}
	_, err = a.await(ctx, "the job is changed", ch)
	return err
}

// Warm runs one task in so many slots at once (a barrier stage), so that every executor has its code
// loaded and its Python worker started: without it the executors that are first do most of the maps.
func (a *App) Warm(ctx context.Context, slots int) error {
	_, err := a.whole(ctx, "warm", slots)
	return err
}

func (a *App) whole(ctx context.Context, command string, n int) (Round, error) {
	r, err := a.begin(ctx, command, n)
	if err != nil {
		return Round{}, err
	}
	return r.Wait(ctx)
}

func (a *App) begin(ctx context.Context, command string, n int) (*Running, error) {
	before, err := a.MapTasksRun(ctx)
	if err != nil {
		return nil, err
	}
	ch, err := a.send(command, n)
	return &Running{app: a, answer: ch, before: before, what: command + " is done"}, err
}

// Wait returns what the round came to.
func (r *Running) Wait(ctx context.Context) (Round, error) {
	got, err := r.app.await(ctx, r.what, r.answer)
	if err != nil {
		return Round{}, err
	}
	after, err := r.app.MapTasksRun(ctx)
	return Round{
		MapTasks: after - r.before, Counted: got.Counted, Result: string(got.Result),
		Took: time.Duration(got.Seconds * float64(time.Second)), Exact: bytes.Equal(got.Result, got.Want),
	}, err
}

// Stop ends the application in good order: executors clean up.
func (a *App) Stop(ctx context.Context) error {
	_, err := a.send("quit", 0)
	_ = a.in.Close()
	select {
	case <-a.proc.done:
		err = errors.Join(err, a.proc.err)
	case <-ctx.Done():
		err = errors.Join(err, fmt.Errorf("stop %s: %w", a.ID, context.Cause(ctx)))
	}
	a.Kill()
	return err
}

// Kill ends the driver as a crash would.
func (a *App) Kill() {
	a.proc.kill()
	_ = a.in.Close()
	c := a.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	c.apps = slices.DeleteFunc(c.apps, func(b *App) bool { return a == b })
}

// Log is the path of the driver's log.
func (a *App) Log() string { return a.proc.log }

// Pids are the processes of the driver: Python and the JVM.
func (a *App) Pids() []int { return a.proc.pids() }
