package executor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const childVariable = "LIFEBOAT_TEST_CHILD"

// TestMain lets the test binary play an executor: it listens on two ports, says which, and waits for
// the end of its input.
func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "" {
		os.Exit(m.Run())
	}
	if os.Getenv(childVariable) == "handler" {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGPWR)
	} else {
		signal.Reset(syscall.SIGPWR)
	}
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			fmt.Println(0)
			continue
		}
		fmt.Println(l.Addr().(*net.TCPAddr).Port)
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		os.Exit(1)
	}
}

type child struct {
	cmd   *exec.Cmd
	ports []int
}

func startChild(t *testing.T, kind string, argv []string, env ...string) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := &exec.Cmd{Path: self, Args: argv, Env: append([]string{childVariable + "=" + kind}, env...)}
	_, errIn := cmd.StdinPipe() // stays open until Wait
	stdout, errOut := cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killAtEnd(t, cmd)
	c := &child{cmd: cmd}
	lines := bufio.NewScanner(stdout)
	for range 2 {
		if !lines.Scan() {
			t.Fatal("the child said nothing")
		}
		port, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Fatal(err)
		}
		if port != 0 {
			c.ports = append(c.ports, port)
		}
	}
	return c
}

// killAtEnd leaves no process behind. Both calls fail when it has ended before.
func killAtEnd(t *testing.T, cmd *exec.Cmd) {
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

func (c *child) pid() int { return c.cmd.Process.Pid }

func TestRealProcess(t *testing.T) {
	app := fmt.Sprintf("app-test-%d", os.Getpid())
	c := startChild(t, "handler", append(executorArgv(app, "5", "127.0.0.9"), strings.Repeat("z", 100<<10)), "SPARK_LOCAL_DIRS=/x,/y")
	f := Finder{Addresses: []string{"127.0.0.9"}}
	executors, err := f.Executors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var found *Executor
	for i := range executors {
		if executors[i].App == app {
			found = &executors[i]
		}
	}
	if found == nil || found.PID != c.pid() || !found.HandlesPWR || !reflect.DeepEqual(found.LocalDirs, []string{"/x", "/y"}) {
		t.Fatalf("got %+v", found)
	}
	ports, err := f.ListeningPorts(c.pid())
	if err != nil || len(ports) != len(c.ports) {
		t.Fatalf("ports %v, %v, want %v", ports, err, c.ports)
	}
	for _, port := range c.ports {
		if port != ports[0] && port != ports[len(ports)-1] {
			t.Errorf("port %d is missing in %v", port, ports)
		}
	}
	if others, _ := (Finder{Addresses: []string{"127.0.0.8"}}).Executors(t.Context()); len(others) > 0 && others[0].App == app {
		t.Error("an executor of another address was taken")
	}
}

func TestWithoutHandler(t *testing.T) {
	// The Go runtime catches all signals; sleep catches none.
	cmd := &exec.Cmd{Path: "/bin/sleep", Args: []string{"java", "60"}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killAtEnd(t, cmd)
	if pwr, err := handles("/proc", cmd.Process.Pid, syscall.SIGPWR); err != nil || pwr {
		t.Errorf("got %v, %v", pwr, err)
	}
	if ports, err := (Finder{}).ListeningPorts(cmd.Process.Pid); err != nil || len(ports) != 0 {
		t.Errorf("ports %v, %v", ports, err)
	}
}

func openChild(t *testing.T, c *child) *Process {
	t.Helper()
	start, err := StartTime("/proc", c.pid())
	if err != nil {
		t.Fatal(err)
	}
	p, err := Open(c.pid(), start)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestProcessLife(t *testing.T) {
	c := startChild(t, "plain", []string{"plain"})
	p := openChild(t, c)
	if !p.Alive() {
		t.Fatal("not alive")
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := p.Done(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Done before the end: %v", err)
	}
	results := make(chan error, 3)
	for range 3 {
		go func() { results <- p.Done(t.Context()) }()
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := <-results; err != nil {
			t.Errorf("Done: %v", err)
		}
	}
	if p.Alive() {
		t.Error("alive as a zombie")
	}
	if _, err := StartTime("/proc", c.pid()); !errors.Is(err, ErrGone) {
		t.Errorf("a zombie's start time: %v", err)
	}
	if err := c.cmd.Wait(); err == nil {
		t.Error("the signal ended it without a trace")
	}
	if err := p.Signal(syscall.SIGTERM); !errors.Is(err, ErrGone) {
		t.Errorf("signal after the end: %v", err)
	}
	if _, err := (Finder{}).ListeningPorts(c.pid()); !errors.Is(err, ErrGone) {
		t.Errorf("ports after the end: %v", err)
	}
	if _, err := Open(c.pid(), p.Start); !errors.Is(err, ErrGone) {
		t.Errorf("open after the end: %v", err)
	}
}

func TestOpenChecksIdentity(t *testing.T) {
	c := startChild(t, "plain", []string{"plain"})
	p := openChild(t, c)
	if _, err := Open(c.pid(), p.Start+1); !errors.Is(err, ErrGone) {
		t.Errorf("another start time: %v", err)
	}
}

func TestCloseEndsDone(t *testing.T) {
	p := openChild(t, startChild(t, "plain", []string{"plain"}))
	result := make(chan error, 1)
	go func() { result <- p.Done(t.Context()) }()
	p.Close()
	if err := <-result; !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if p.Alive() {
		t.Error("a closed handle knows nothing")
	}
}
