package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lifeboat/lifeboat/migrate/spark/driver"
	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/migrate/spark/java"
	"github.com/lifeboat/lifeboat/migrate/spark/shuffle"
	"github.com/lifeboat/lifeboat/migrate/spark/wire"
)

// ExecutorView is one executor of this node as a person wants to see it: what would be lost with it.
type ExecutorView struct {
	App      string   `json:"app"`
	Executor string   `json:"executor"`
	PID      int      `json:"pid"`
	Host     string   `json:"host"`
	Driver   string   `json:"driver"`
	Spark    string   `json:"spark"`
	Manager  string   `json:"manager"`
	Outputs  int      `json:"outputs"` // committed map outputs in its folders
	Bytes    int64    `json:"bytes"`
	Tasks    int      `json:"tasks"` // running now; -1 when the driver's REST server does not say
	Folders  []string `json:"folders"`
	// Objects is the URL of the object storage that the outputs of its application can go to, and what a copy there is
	// worth; or why there is none.
	Objects  string   `json:"objects"`
	Problems []string `json:"problems,omitempty"`
}

// inventoryREST bounds how long a person waits for the drivers and their REST servers.
const inventoryREST = 2 * time.Second

// Inventory lists the executors of this node with the outputs at risk. An executor that could be read
// only in part is listed with its problems; the error tells of processes that could not be read at all.
func (a *Agent) Inventory(ctx context.Context) ([]ExecutorView, error) {
	list, err := a.finder.Executors(ctx)
	views := make([]ExecutorView, 0, len(list))
	var tasks map[string]int
	var objects map[string]string
	var questions sync.WaitGroup
	questions.Go(func() { tasks = a.runningTasks(ctx, list) })
	questions.Go(func() { objects = a.objectsOf(ctx, list) })
	questions.Wait()
	for _, e := range list {
		v := ExecutorView{
			App: e.App, Executor: e.ID, PID: e.PID, Host: e.Host, Driver: e.DriverURL,
			Spark: e.Spark, Manager: e.Manager, Tasks: -1, Objects: objects[e.App],
		}
		if n, ok := tasks[e.App+"/"+e.ID]; ok {
			v.Tasks = n
		}
		a.countOutputs(ctx, e, &v)
		views = append(views, v)
	}
	return views, err
}

// countOutputs scans the executor's own folders. Standalone executors of one application share local dirs: which
// folder is whose, the executor itself says.
func (a *Agent) countOutputs(ctx context.Context, e executor.Executor, v *ExecutorView) {
	store, err := shuffle.Open(ctx, shuffle.Options{
		App: e.App, Roots: []shuffle.Root{{Proc: a.proc, PID: e.PID, Dirs: e.LocalDirs}}, Limit: a.pinLimit, Log: a.log,
	})
	if err != nil {
		v.Problems = append(v.Problems, err.Error())
		return
	}
	defer store.Close()
	own := ownFolders(ctx, a.finder, a.dialer, e)
	if own == nil {
		v.Problems = append(v.Problems, "the executor did not say which folders are its own: all of its local dirs are counted")
	}
	found, _, err := store.Scan(ctx)
	if err != nil {
		v.Problems = append(v.Problems, err.Error())
	}
	for _, f := range store.Folders() {
		if own == nil || own[f.Name] {
			v.Folders = append(v.Folders, f.Name)
		}
	}
	for _, f := range found {
		if own == nil || own[f.Folder] {
			v.Outputs++
			v.Bytes += f.Output.Bytes()
		}
	}
}

// runningTasks asks each application's driver once, all at the same time.
func (a *Agent) runningTasks(ctx context.Context, list []executor.Executor) map[string]int {
	ctx, cancel := context.WithTimeout(ctx, inventoryREST)
	defer cancel()
	drivers := map[string]string{}
	for _, e := range list {
		drivers[e.App] = e.DriverURL
	}
	type answer struct {
		app  string
		list []driver.ExecutorInfo
	}
	answers := make(chan answer)
	for app, url := range drivers {
		go func() {
			infos, _ := a.askREST(ctx, app, url)
			answers <- answer{app, infos}
		}()
	}
	tasks := map[string]int{}
	for range drivers {
		got := <-answers
		for _, e := range got.list {
			tasks[got.app+"/"+e.ID] = e.ActiveTasks
		}
	}
	return tasks
}

// objectsOf says for each application where its copies would go, by what its driver says. Nothing is asked of the
// storage.
func (a *Agent) objectsOf(ctx context.Context, list []executor.Executor) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, inventoryREST)
	defer cancel()
	one := map[string]executor.Executor{}
	for _, e := range list {
		one[e.App] = e
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	places := map[string]string{}
	for app, e := range one {
		all.Go(func() {
			text := a.objectsText(ctx, e)
			mu.Lock()
			defer mu.Unlock()
			places[app] = text
		})
	}
	all.Wait()
	return places
}

func (a *Agent) objectsText(ctx context.Context, e executor.Executor) string {
	props, err := a.properties(ctx, e)
	if err != nil {
		return "not known: " + err.Error()
	}
	p, err := placeObjects(a.cfg, props)
	if err != nil {
		return err.Error()
	}
	return p.url + ", " + p.meaning()
}

func (a *Agent) askREST(ctx context.Context, app, driverURL string) ([]driver.ExecutorInfo, error) {
	host, _, err := driver.Address(driverURL)
	if err != nil {
		return nil, err
	}
	rest, err := driver.FindREST(ctx, a.dialer, host, app, a.cfg.Spark.RESTPorts)
	if err != nil {
		return nil, err
	}
	list, err := rest.Executors(ctx)
	if err != nil {
		return nil, errors.Join(err, ctx.Err())
	}
	return list, nil
}

// ownFolders asks the executor for its folders on each port that it listens on; nil when none answers.
func ownFolders(ctx context.Context, f executor.Finder, d wire.Dialer, e executor.Executor) map[string]bool {
	_, own, err := askManager(ctx, f, d, e)
	if err != nil {
		return nil
	}
	return folderNames(own)
}

var errSilent = errors.New("no block manager of it answers")

// askManager finds the executor's block manager among the ports that it listens on, and asks it for its folders.
func askManager(ctx context.Context, f executor.Finder, d wire.Dialer, e executor.Executor) (self java.BlockManagerID, folders []string, err error) {
	ports, err := f.ListeningPorts(e.PID)
	if err != nil {
		return self, nil, err
	}
	for _, port := range ports {
		self = java.BlockManagerID{Executor: e.ID, Host: e.Host, Port: port}
		if folders, err = askFolders(ctx, d, self, e.App); err == nil {
			return self, folders, nil
		}
	}
	return java.BlockManagerID{}, nil, fmt.Errorf("executor %s: %w", e.ID, errSilent)
}
