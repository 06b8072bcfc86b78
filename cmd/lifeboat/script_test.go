package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lifeboat/lifeboat/providers/aws/awstest"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"lifeboat": main}) }

// startMetadata is a stand-in for EC2's instance metadata until the script ends; $METADATA is its address.
func startMetadata(e *testscript.Env) error {
	s, err := awstest.Start("127.0.0.1:0")
	if err != nil {
		return err
	}
	e.Defer(func() { _ = s.Close() })
	e.Setenv("METADATA", s.URL())
	return nil
}

// TestScripts runs the real command. Each script finds lb.yaml: a state folder of its own, no cloud,
// and an address that no executor has; and serving.yaml, which is the same with an address to listen on.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			text := fmt.Sprintf("node: {name: node-1, addresses: [192.0.2.1]}\nstate: %s/state\nlisten: \"\"\n"+
				"providers:\n  cloud: none\n  kube: {enabled: false}\n  file: {enabled: true, path: %s/notice}\n", e.WorkDir, e.WorkDir)
			serving := strings.Replace(text, `listen: ""`, "listen: "+freeAddress(), 1)
			return errors.Join(startMetadata(e), os.Chmod(e.WorkDir, 0o755), os.WriteFile(filepath.Join(e.WorkDir, "lb.yaml"), []byte(text), 0o600),
				os.WriteFile(filepath.Join(e.WorkDir, "serving.yaml"), []byte(serving), 0o600))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "appears": appears, "ready": ready},
	})
}

// freeAddress is one where nobody listens now.
func freeAddress() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:0"
	}
	defer l.Close()
	return l.Addr().String()
}

// exits runs a command and checks its exit code: exits CODE COMMAND ARG…
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var code *exec.ExitError
		if !errors.As(err, &code) {
			ts.Fatalf("%v", err)
		}
		got = code.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// appears waits until a file is there.
func appears(ts *testscript.TestScript, _ bool, args []string) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			ts.Fatalf("%s does not appear", args[0])
		}
	}
}

// ready waits until the agent of a configuration hears notices.
func ready(ts *testscript.TestScript, _ bool, args []string) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for ts.Exec("lifeboat", "notices", "--config", args[0]) != nil {
		select {
		case <-tick.C:
		case <-late:
			ts.Fatalf("no source works")
		}
	}
}
