package agent

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/migrate/spark/executor"
	"github.com/lifeboat/lifeboat/migrate/spark/java"
	"github.com/lifeboat/lifeboat/migrate/spark/java/javatest"
	"github.com/lifeboat/lifeboat/migrate/spark/wire"
	"github.com/lifeboat/lifeboat/migrate/spark/wire/wiretest"
)

const childVariable = "LIFEBOAT_TEST_CHILD"

// TestMain lets the test binary play a JVM that handles SIGPWR.
func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "" {
		flag.Parse()
		_ = flag.Set("test.parallel", "20") // they wait most of the time
		os.Exit(m.Run())
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGPWR)
	signal.Reset(syscall.SIGTERM)
	fmt.Println("ready")
	go func() {
		for range signals {
			fmt.Println("pwr")
		}
	}()
	io.Copy(io.Discard, os.Stdin)
}

// sparkApp is a scripted application: its driver, and the executors that the driver knows.
type sparkApp struct {
	*stage
	id     string
	host   string // of the driver
	driver *wiretest.Server
	rest   *httptest.Server

	// Guarded by the stage's lock.
	props     map[string]string
	executors []*sparkExecutor
	made      map[int]string                     // which executor's task made a map output, where the driver's list says so
	took      map[int]int                        // how many ms that took; 1000 without an entry
	deaf      bool                               // the driver reads and does not answer
	onTell    func(id string)                    // before the driver marks an executor
	onPeers   func(ask java.BlockManagerID) bool // false: the driver answers nothing
	mute      func(id string) bool               // true: it does not answer about this executor
}

// sparkExecutor is an executor: on the node (process is set) or elsewhere, where it takes uploads.
type sparkExecutor struct {
	app     *sparkApp
	id      string
	host    string
	version string // of Scala and Spark, as in the name of a jar
	dirs    string // more local dirs, each after a colon
	backend string // its main class; "": that of a standalone executor
	server  *wiretest.Server
	process *os.Process

	// Guarded by the stage's lock.
	unknown bool // the driver does not know it (yet)
	marked  bool
	tasks   int
	blocks  int
	refuse  string // an exception that every upload gets
	silent  bool   // it has stopped: nothing is answered
	stored  map[string][]byte
}

func sparkDialect() java.Dialect {
	d, _, _ := java.ForVersion("3.5.9", "2.12")
	return d
}

// app adds an application with a driver elsewhere.
func (s *stage) app(id string) *sparkApp {
	s.t.Helper()
	a := &sparkApp{stage: s, id: id, host: "driver-" + id, props: map[string]string{"spark.app.id": id, "spark.app.name": "a job"}}
	a.driver = wiretest.NewServer(s.t, wiretest.Script{Handle: a.answer})
	a.rest = httptest.NewServer(http.HandlerFunc(a.serveREST))
	s.t.Cleanup(a.rest.Close)
	address, err := url.Parse(a.rest.URL)
	must(s.t, err)
	port, err := strconv.Atoi(address.Port())
	must(s.t, err)
	s.cfg.Spark.RESTPorts = append(s.cfg.Spark.RESTPorts, port)
	return a
}

func (a *sparkApp) driverURL() string {
	return fmt.Sprintf("spark://CoarseGrainedScheduler@%s:%d", a.host, a.driver.Port())
}

// answer is the driver's RPC.
func (a *sparkApp) answer(s *wiretest.Session, r wiretest.Request) {
	e, err := wire.DecodeEndpointMessage(r.Body)
	if err != nil {
		a.t.Errorf("message to the driver: %v", err)
	}
	d, payload := sparkDialect(), string(e.Payload)
	switch {
	case a.isDeaf():
		a.happened("unanswered")
	case payload == string(d.RetrieveSparkAppConfig(0)):
		a.mu.Lock()
		reply := javatest.AppConfig(a.props)
		a.mu.Unlock()
		s.Answer(r.ID, reply)
	case e.Name == "CoarseGrainedScheduler":
		i := slices.IndexFunc(a.all(), func(x *sparkExecutor) bool { return payload == string(d.ExecutorDecommissioning(x.id)) })
		if i >= 0 && a.mute != nil && a.mute(a.all()[i].id) {
			a.happened("unanswered")
			return
		}
		s.Answer(r.ID, javatest.Boolean(i >= 0 && a.tell(a.all()[i])))
	case strings.Contains(payload, "UpdateBlockInfo"):
		a.happened("announced %s", announcedBlock.FindString(payload))
		s.Answer(r.ID, javatest.Boolean(true))
	default:
		if reply := a.peersOf(payload); reply != nil {
			s.Answer(r.ID, reply)
		}
	}
}

var announcedBlock = regexp.MustCompile(`shuffle_\d+_\d+_0\.(index|data)`)

func (a *sparkApp) isDeaf() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.deaf
}

func (a *sparkApp) all() []*sparkExecutor {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.executors)
}

// tell marks an executor, which the driver does once.
func (a *sparkApp) tell(x *sparkExecutor) bool {
	if a.onTell != nil {
		a.onTell(x.id)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if x.unknown || x.marked {
		a.note("asked %s again", x.id)
		return false
	}
	x.marked = true
	a.note("told %s", x.id)
	return true
}

// peersOf answers GetPeers as BlockManagerMasterEndpoint does.
func (a *sparkApp) peersOf(payload string) []byte {
	d := sparkDialect()
	var list []java.BlockManagerID
	known := a.props[fallbackKey] != "" && payload == string(d.GetPeers(java.FallbackBlockManager()))
	if a.props[fallbackKey] != "" && !known {
		list = append(list, java.FallbackBlockManager())
	}
	for _, x := range a.all() {
		if payload == string(d.GetPeers(x.manager())) {
			if a.onPeers != nil && !a.onPeers(x.manager()) {
				return nil
			}
			a.mu.Lock()
			known = !x.unknown
			a.mu.Unlock()
			continue
		}
		a.mu.Lock()
		if !x.marked && !x.unknown {
			list = append(list, x.manager())
		}
		a.mu.Unlock()
	}
	if !known {
		list = nil
	}
	return javatest.Peers(list...)
}

func (a *sparkApp) serveREST(w http.ResponseWriter, r *http.Request) {
	base := "/api/v1/applications/" + a.id
	switch r.URL.Path {
	case base:
		_ = json.NewEncoder(w).Encode(map[string]any{"id": a.id})
	case base + "/executors":
		a.mu.Lock()
		defer a.mu.Unlock()
		list := []map[string]any{}
		for _, x := range a.executors {
			if !x.unknown {
				list = append(list, map[string]any{
					"id": x.id, "hostPort": fmt.Sprintf("%s:%d", x.host, x.server.Port()), "isActive": true,
					"activeTasks": x.tasks, "rddBlocks": x.blocks,
				})
			}
		}
		_ = json.NewEncoder(w).Encode(list)
	case base + "/stages":
		a.mu.Lock()
		defer a.mu.Unlock()
		fmt.Fprintf(w, `[{"stageId": 0, "attemptId": 0, "shuffleWriteBytes": 1, "numCompleteTasks": %d}]`, len(a.made))
	case base + "/stages/0/0/taskList":
		a.mu.Lock()
		defer a.mu.Unlock()
		list := []map[string]any{}
		for id, x := range a.made {
			list = append(list, map[string]any{"taskId": id, "executorId": x, "status": "SUCCESS", "duration": cmp.Or(a.took[id], 1000)})
		}
		_ = json.NewEncoder(w).Encode(list)
	default:
		http.NotFound(w, r)
	}
}

// peer adds an executor on another host.
func (a *sparkApp) peer(id, host string) *sparkExecutor {
	a.t.Helper()
	x := &sparkExecutor{app: a, id: id, host: host, version: "2.12-3.5.9", stored: map[string][]byte{}}
	answers := wiretest.Executor{App: a.id, ID: id, Dirs: []string{x.folder()}, Upload: x.upload}.Script()
	x.server = wiretest.NewServer(a.t, wiretest.Script{Peek: answers.Peek, Handle: func(s *wiretest.Session, r wiretest.Request) {
		if !x.isSilent() {
			answers.Handle(s, r)
		}
	}})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.executors = append(a.executors, x)
	return x
}

// folder is where it keeps its files, as it sees them.
func (x *sparkExecutor) folder() string { return "/local/" + x.app.id + "/blockmgr-" + x.id }

func (x *sparkExecutor) manager() java.BlockManagerID {
	return java.BlockManagerID{Executor: x.id, Host: x.host, Port: x.server.Port()}
}

func (x *sparkExecutor) isSilent() bool {
	x.app.mu.Lock()
	defer x.app.mu.Unlock()
	return x.silent
}

// upload stores a block, as executors elsewhere do.
func (x *sparkExecutor) upload(s *wiretest.Session, r wiretest.Request) bool {
	x.app.mu.Lock()
	defer x.app.mu.Unlock()
	if x.refuse != "" {
		x.app.note("refused %s at %s", r.Block(), x.id)
		go s.Fail(r.ID, x.refuse)
		return false
	}
	kind := "data"
	if strings.HasSuffix(r.Block(), ".index") {
		kind = "index"
		empty := binary.BigEndian.Uint64(r.Data[8:]) == 0
		if _, ok := x.stored[strings.TrimSuffix(r.Block(), "index")+"data"]; !ok && !empty {
			x.app.t.Errorf("index %s without its data", r.Block())
		}
	}
	x.stored[r.Block()] = r.Data
	x.app.note("%s %s at %s", kind, r.Block(), x.id)
	return true
}

// kinds of processes on the node.
const (
	plain    = "plain"    // without a handler for SIGPWR
	handler  = "handler"  // with one
	stubborn = "stubborn" // ignores SIGTERM
)

// member adds an executor on the node, with a process of its own.
func (a *sparkApp) member(id, kind string) *sparkExecutor {
	a.t.Helper()
	x := a.peer(id, home)
	must(a.t, os.MkdirAll(filepath.Join(a.files, x.folder()), 0o755))
	x.start(kind)
	return x
}

// start begins its process: from now on the agent can see it.
func (x *sparkExecutor) start(kind string) {
	a := x.app
	pid := a.spawn(kind, x.onSignal, x.ended)
	x.process, _ = os.FindProcess(pid)
	caught := "0000000000000000"
	if kind == handler {
		caught = "0000000020000000"
	}
	a.write(pid, "fd/.keep", "")
	must(a.t, os.Remove(filepath.Join(a.proc, strconv.Itoa(pid), "fd", ".keep")))
	must(a.t, os.Symlink("socket:[4711]", filepath.Join(a.proc, strconv.Itoa(pid), "fd", "3")))
	must(a.t, os.Symlink("/jars/spark-core_"+x.version+".jar", filepath.Join(a.proc, strconv.Itoa(pid), "fd", "4")))
	a.write(pid, "net/tcp", fmt.Sprintf("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"+
		"   0: 00000000:%04X 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n", x.server.Port()))
	a.write(pid, "environ", "SPARK_EXECUTOR_DIRS=/local/"+a.id+x.dirs+"\x00")
	a.write(pid, "status", statusFile(caught))
	a.show(pid, cmp.Or(x.backend, "org.apache.spark.executor.CoarseGrainedExecutorBackend"), "--driver-url", a.driverURL(), "--executor-id", x.id,
		"--hostname", x.host, "--app-id", a.id, "--resourceProfileId", "0")
}

// statusFile is that of a process of the tests' own user.
func statusFile(caught string) string {
	uid, gid := os.Geteuid(), os.Getegid()
	return fmt.Sprintf("Name:\tjava\nUid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d\nGid:\t%[2]d\t%[2]d\t%[2]d\t%[2]d\nGroups:\t \nSigCgt:\t%[3]s\n", uid, gid, caught)
}

// worker adds a standalone worker, and says which process it is.
func (s *stage) worker(kind string) int {
	s.t.Helper()
	pid := s.spawn(kind, func() { s.happened("worker decommissioned") }, func(syscall.Signal) { s.happened("worker ended") })
	caught := "0000000000000000"
	if kind == handler {
		caught = "0000000020000000"
	}
	s.write(pid, "environ", "SPARK_LOCAL_DIRS=/local\x00")
	s.write(pid, "status", statusFile(caught))
	s.show(pid, "org.apache.spark.deploy.worker.Worker", "--host", home, "spark://master:7077")
	return pid
}

// show makes a process visible: what tells its kind comes last.
func (s *stage) show(pid int, argv ...string) {
	s.t.Helper()
	must(s.t, os.Symlink(s.files, filepath.Join(s.proc, strconv.Itoa(pid), "root")))
	start, err := executor.StartTime("/proc", pid)
	must(s.t, err)
	s.write(pid, "cmdline", strings.Join(append([]string{"/usr/bin/java", "-cp", "/jars/*"}, argv...), "\x00")+"\x00")
	s.write(pid, "stat", fmt.Sprintf("%d (java) S 1 2 3 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 %d 100 200\n", pid, start))
}

// spawn starts a process. ended runs when it has ended and is no longer visible.
func (s *stage) spawn(kind string, signalled func(), ended func(syscall.Signal)) int {
	s.t.Helper()
	cmd := exec.Command("sleep", "60")
	switch kind {
	case stubborn:
		cmd = exec.Command("sh", "-c", `trap "" TERM; echo ready; exec sleep 60`)
	case handler:
		self, err := os.Executable()
		must(s.t, err)
		cmd = exec.Command(self)
		cmd.Env = append(os.Environ(), childVariable+"=1")
		_, err = cmd.StdinPipe()
		must(s.t, err)
	}
	out, err := cmd.StdoutPipe()
	must(s.t, err)
	must(s.t, cmd.Start())
	lines := bufio.NewScanner(out)
	if kind != plain && !lines.Scan() {
		s.t.Fatal("the process is not ready")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines.Scan() {
			signalled()
		}
		_ = cmd.Wait()
		_ = os.RemoveAll(filepath.Join(s.proc, strconv.Itoa(cmd.Process.Pid)))
		sig := syscall.Signal(0)
		if st, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && st.Signaled() {
			sig = st.Signal()
		}
		ended(sig)
	}()
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
	})
	return cmd.Process.Pid
}

// onSignal is what Spark's handler of SIGPWR does: the executor asks the driver to be marked, and when that
// is refused, the default action ends the JVM.
func (x *sparkExecutor) onSignal() {
	x.app.mu.Lock()
	defer x.app.mu.Unlock()
	x.app.note("sigpwr %s", x.id)
	if x.marked {
		_ = x.process.Signal(syscall.SIGKILL)
	}
	x.marked = true
}

// ended is the end of its process: its driver loses it, and a clean exit removes its files.
func (x *sparkExecutor) ended(sig syscall.Signal) {
	if sig == syscall.SIGTERM {
		_ = os.RemoveAll(filepath.Join(x.app.files, x.folder()))
	}
	x.server.Close()
	x.app.mu.Lock()
	defer x.app.mu.Unlock()
	x.unknown = true
	x.app.note("ended %s by %v", x.id, sig)
}

// commit writes one map output of the executor, as Spark does: under other names first, the index before the data.
func (x *sparkExecutor) commit(shuffle, mapID, size int) {
	x.app.t.Helper()
	dir := filepath.Join(x.app.files, x.folder(), "0c")
	must(x.app.t, os.MkdirAll(dir, 0o755))
	base := filepath.Join(dir, fmt.Sprintf("shuffle_%d_%d_0", shuffle, mapID))
	index := binary.BigEndian.AppendUint64(make([]byte, 8), uint64(size))
	for _, f := range []struct {
		name    string
		content []byte
	}{{base + ".index", index}, {base + ".data", []byte(strings.Repeat("d", size))}} {
		if len(f.content) > 0 { // without records there is no data file
			must(x.app.t, os.WriteFile(f.name+".0f3c", f.content, 0o644))
			must(x.app.t, os.Rename(f.name+".0f3c", f.name))
		}
	}
}

// commits writes outputs with the map ids from first to first+n-1.
func (x *sparkExecutor) commits(first, n, size int) {
	x.app.t.Helper()
	for i := range n {
		x.commit(0, first+i, size)
	}
}

// age makes all outputs so old that they are not fresh.
func (x *sparkExecutor) age(by time.Duration) {
	x.app.t.Helper()
	at := time.Now().Add(-by)
	paths, _ := filepath.Glob(filepath.Join(x.app.files, x.folder(), "*", "shuffle_*"))
	for _, path := range paths {
		must(x.app.t, os.Chtimes(path, at, at))
	}
}

// set changes something under the stage's lock.
func (x *sparkExecutor) set(change func(*sparkExecutor)) {
	x.app.mu.Lock()
	defer x.app.mu.Unlock()
	change(x)
}

// holds counts the outputs that are there, by their index.
func (x *sparkExecutor) holds() int {
	x.app.mu.Lock()
	defer x.app.mu.Unlock()
	n := 0
	for name := range x.stored {
		if strings.HasSuffix(name, ".index") {
			n++
		}
	}
	return n
}
