package executor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// fakeProc is a proc file system of plain files.
type fakeProc struct {
	t    *testing.T
	root string
}

type fakeProcess struct {
	pid, parent int
	start       uint64
	comm        string
	argv        []string
	env         []string
	sigCgt      string
	fds         []string
}

func newFakeProc(t *testing.T) *fakeProc { return &fakeProc{t, t.TempDir()} }

func (f *fakeProc) write(pid int, name, content string) {
	f.t.Helper()
	path := filepath.Join(f.root, strconv.Itoa(pid), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fakeProc) add(p fakeProcess) {
	f.t.Helper()
	if p.sigCgt == "" {
		p.sigCgt = "0"
	}
	f.write(p.pid, "stat", fmt.Sprintf("%d (%s) S %d 2 3 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 %d 100 200\n", p.pid, p.comm, p.parent, p.start))
	f.write(p.pid, "cmdline", strings.Join(p.argv, "\x00")+"\x00")
	f.write(p.pid, "environ", strings.Join(p.env, "\x00")+"\x00")
	f.write(p.pid, "status", "Name:\t"+p.comm+"\nSigCgt:\t"+p.sigCgt+"\n")
	for i, target := range p.fds {
		link := filepath.Join(f.root, strconv.Itoa(p.pid), "fd", strconv.Itoa(i))
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			f.t.Fatal(err)
		}
		if err := os.Symlink(target, link); err != nil && !os.IsExist(err) {
			f.t.Fatal(err)
		}
	}
}

func executorArgv(app, id, host string) []string {
	return []string{"/usr/bin/java", "-cp", "/opt/spark/jars/*", "-Xmx1g", standaloneBackend,
		"--driver-url", "spark://CoarseGrainedScheduler@d:7078", "--executor-id", id, "--hostname", host, "--app-id", app, "--resourceProfileId", "0"}
}

func ids(found Found) []string {
	var ids []string
	for _, e := range found.Executors {
		ids = append(ids, e.App+"/"+e.ID)
	}
	for _, w := range found.Workers {
		ids = append(ids, "worker "+w.Host)
	}
	return ids
}

func TestScanFakeTree(t *testing.T) {
	proc := newFakeProc(t)
	proc.write(0, "not-a-number/x", "")
	proc.add(fakeProcess{pid: 10, start: 100, comm: "java", argv: executorArgv("app-1", "0", "10.0.0.1"),
		env: []string{"SPARK_EXECUTOR_DIRS=/a:b", "_SPARK_AUTH_SECRET=hush"}, sigCgt: "20000000",
		fds: []string{"/dev/null", "/opt/spark/jars/spark-core_2.13-4.3.0.jar"}})
	proc.add(fakeProcess{pid: 11, parent: 10, start: 101, comm: "Executor task l", argv: executorArgv("app-1", "0", "10.0.0.1")})
	proc.add(fakeProcess{pid: 12, start: 102, comm: "java", argv: executorArgv("app-1", "1", "10.0.0.2")})
	proc.add(fakeProcess{pid: 13, start: 103, comm: "tini", argv: append([]string{"tini", "-s", "--"}, executorArgv("app-1", "0", "10.0.0.1")...)})
	proc.add(fakeProcess{pid: 14, start: 104, comm: "java", argv: []string{"java", workerMain, "--host", "NODE-A", "spark://m:7077"}, env: []string{"SPARK_LOCAL_DIRS=/w"}})
	proc.write(15, "comm", "vanished between readdir and stat")
	if err := os.Symlink("/work dir", filepath.Join(proc.root, "10", "cwd")); err != nil {
		t.Fatal(err)
	}

	found, err := NewScanner(Finder{Proc: proc.root, Addresses: []string{"10.0.0.1", "node-a"}}).Scan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := Found{
		Executors: []Executor{{App: "app-1", ID: "0", Host: "10.0.0.1", DriverURL: "spark://CoarseGrainedScheduler@d:7078", PID: 10, Start: 100,
			LocalDirs: []string{"/a", "/work dir/b"}, Spark: "4.3.0", Scala: "2.13", Manager: Standalone, HandlesPWR: true}},
		Workers: []Worker{{PID: 14, Start: 104, Host: "NODE-A", LocalDirs: []string{"/w"}}},
	}
	if !reflect.DeepEqual(found, want) {
		t.Errorf("got  %+v\nwant %+v", found, want)
	}
}

func TestScannerSeesChanges(t *testing.T) {
	proc := newFakeProc(t)
	s := NewScanner(Finder{Proc: proc.root})
	p := fakeProcess{pid: 10, start: 100, comm: "bash", argv: []string{"bash", "launch.sh"}}
	expect := func(step string, want ...string) Found {
		t.Helper()
		proc.add(p)
		found, err := s.Scan(t.Context())
		if err != nil || !reflect.DeepEqual(ids(found), want) {
			t.Fatalf("%s: %q, %v, want %q", step, ids(found), err, want)
		}
		return found
	}
	expect("a shell")
	p.argv = executorArgv("app-1", "0", "h")
	expect("remembered by name: the command line of a shell is not read again")
	p.comm = "java"
	expect("the shell became a JVM", "app-1/0")
	p.sigCgt, p.fds = "20000000", []string{"/j/spark-core_2.12-3.5.9.jar"}
	found := expect("handlers and jars come late", "app-1/0")
	if e := found.Executors[0]; !e.HandlesPWR || e.Spark != "3.5.9" || e.Scala != "2.12" {
		t.Errorf("got %+v", e)
	}
	p.start, p.argv = 200, executorArgv("app-2", "7", "h")
	expect("the id was used again", "app-2/7")
	p.start, p.argv = 300, []string{"java", "org.example.Main"}
	expect("another JVM")
	p.argv = executorArgv("app-3", "1", "h")
	expect("a forked JVM after its exec", "app-3/1")
	if err := os.RemoveAll(filepath.Join(proc.root, "10")); err != nil {
		t.Fatal(err)
	}
	if found, err := s.Scan(t.Context()); err != nil || ids(found) != nil || len(s.known) != 0 {
		t.Errorf("after its end: %+v, %v", found, err)
	}
}

func TestScanReportsWhatItCannotRead(t *testing.T) {
	proc := newFakeProc(t)
	proc.add(fakeProcess{pid: 10, start: 1, comm: "java", argv: executorArgv("app-1", "0", "h")})
	proc.add(fakeProcess{pid: 11, start: 2, comm: "java", argv: executorArgv("app-1", "1", "h")})
	proc.add(fakeProcess{pid: 12, start: 3, comm: "java", argv: append(executorArgv("app-1", "2", "h"), strings.Repeat("x", maxCommandLine))})
	proc.add(fakeProcess{pid: 13, start: 4, comm: "java", argv: []string{"java", standaloneBackend, "--app-id", "a"}})
	proc.add(fakeProcess{pid: 14, start: 5, comm: "java", argv: append(executorArgv("app-1", "3", "h"), strings.Repeat("y", 300<<10))})
	// Reading a directory fails in another way than a missing file.
	environ := filepath.Join(proc.root, "11", "environ")
	if err := errors.Join(os.Remove(environ), os.Mkdir(environ, 0o700)); err != nil {
		t.Fatal(err)
	}

	found, err := NewScanner(Finder{Proc: proc.root}).Scan(t.Context())
	if got := ids(found); !reflect.DeepEqual(got, []string{"app-1/0", "app-1/3"}) {
		t.Errorf("the others must be seen: %q", got)
	}
	for _, part := range []string{"process 11: read its environment", "process 12: read its command line", "longer than the cap", "process 13: no --app-id"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is missing in %v", part, err)
		}
	}
}

func TestAccessErrorSaysWhatToDo(t *testing.T) {
	err := accessError(7, "read its environment", "CAP_SYS_PTRACE", &os.PathError{Op: "open", Path: "/proc/7/environ", Err: syscall.EACCES})
	var access *AccessError
	if !errors.As(err, &access) || access.PID != 7 || !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "CAP_SYS_PTRACE") {
		t.Errorf("got %v", err)
	}
}

func TestScanOfNothing(t *testing.T) {
	if _, err := (Finder{Proc: filepath.Join(t.TempDir(), "absent")}).Executors(t.Context()); err == nil {
		t.Error("no error without a proc file system")
	}
}

func BenchmarkIdleScan(b *testing.B) {
	s := NewScanner(Finder{})
	if _, err := s.Scan(b.Context()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Scan(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(s.known)), "processes")
}
