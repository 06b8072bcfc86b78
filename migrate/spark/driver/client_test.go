package driver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/migrate/spark/java"
	"github.com/lifeboat/lifeboat/migrate/spark/wire"
	"github.com/lifeboat/lifeboat/migrate/spark/wire/wiretest"
)

func TestAddress(t *testing.T) {
	for _, c := range []struct {
		url, host string
		port      int
	}{
		{"spark://CoarseGrainedScheduler@10.0.0.1:7078", "10.0.0.1", 7078},
		{"spark://CoarseGrainedScheduler@driver-svc.ns.svc:7078", "driver-svc.ns.svc", 7078},
		{"spark://CoarseGrainedScheduler@[fd00::1]:7078", "fd00::1", 7078},
		{"spark://CoarseGrainedScheduler@fd00::1:7078", "", 0},
		{"spark://CoarseGrainedScheduler@:7078", "", 0},
		{"spark://CoarseGrainedScheduler@h", "", 0},
		{"spark://CoarseGrainedScheduler@h:0", "", 0},
		{"spark://CoarseGrainedScheduler@h:70000", "", 0},
		{"spark://CoarseGrainedScheduler@h:http", "", 0},
		{"spark://CoarseGrainedScheduler@a@h:1", "", 0},
		{"spark://Worker@h:7078", "", 0},
		{"http://h:7078", "", 0},
		{"", "", 0},
	} {
		host, port, err := Address(c.url)
		if host != c.host || port != c.port || (err == nil) != (c.host != "") {
			t.Errorf("Address(%q) = %q, %d, %v", c.url, host, port, err)
		}
	}
}

// golden is an answer that Spark's own classes wrote (package java's testdata).
func golden(t *testing.T, build, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "java", "testdata", build, name+".bin"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func dialect(t *testing.T, spark, scala string) java.Dialect {
	t.Helper()
	d, exact, ok := java.ForVersion(spark, scala)
	if !exact || !ok {
		t.Fatalf("no dialect of %s", spark)
	}
	return d
}

// client is a Client of a scripted driver.
func client(t *testing.T, s *wiretest.Server, d java.Dialect, o wire.Options) *Client {
	t.Helper()
	url := fmt.Sprintf("spark://CoarseGrainedScheduler@127.0.0.1:%d", s.Port())
	c, err := Dial(t.Context(), &net.Dialer{}, url, d, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// play is a driver that answers each message from the golden files, and checks what it was asked.
func play(t *testing.T, build string, d java.Dialect, ask java.BlockManagerID) *wiretest.Server {
	answers := map[string][]byte{
		"CoarseGrainedScheduler " + string(d.RetrieveSparkAppConfig(3)):     golden(t, build, "appconfig"),
		"CoarseGrainedScheduler " + string(d.ExecutorDecommissioning("17")): golden(t, build, "true"),
		"CoarseGrainedScheduler " + string(d.ExecutorDecommissioning("18")): golden(t, build, "false"),
		"BlockManagerMaster " + string(d.GetPeers(ask)):                     golden(t, build, "peers-seq-3"),
		"BlockManagerMaster " + string(update(d, "shuffle_0_1_0.index")):    golden(t, build, "true"),
		"BlockManagerMaster " + string(update(d, "shuffle_0_2_0.index")):    golden(t, build, "false"),
	}
	return wiretest.NewServer(t, wiretest.Script{Handle: func(s *wiretest.Session, r wiretest.Request) {
		e, err := wire.DecodeEndpointMessage(r.Body)
		if err != nil || e.Host != "127.0.0.1" {
			t.Errorf("endpoint message %+v, %v", e, err)
		}
		answer, ok := answers[e.Name+" "+string(e.Payload)]
		if !ok {
			s.Fail(r.ID, "java.lang.IllegalArgumentException: "+e.Name)
			return
		}
		s.Answer(r.ID, answer)
	}})
}

func update(d java.Dialect, block string) []byte {
	return d.UpdateBlockInfo(java.FallbackBlockManager(), block, 0, 88)
}

func TestQuestions(t *testing.T) {
	for _, v := range []struct{ build, spark, scala string }{
		{"3.5.9-2.12", "3.5.9", "2.12"}, {"4.1.4-2.13", "4.1.4", ""}, {"4.3.0-2.13", "4.3.0", ""},
	} {
		d, ask := dialect(t, v.spark, v.scala), executor("17", "10.0.0.7", 40123)
		c := client(t, play(t, v.build, d, ask), d, wire.Options{})
		if p, err := c.Properties(t.Context(), 3); err != nil || p["spark.app.id"] != "app-1" {
			t.Errorf("%s: properties %v, %v", v.build, p, err)
		}
		if p, err := c.Peers(t.Context(), ask); err != nil || len(p) != 3 || p[0] != executor("1", "10.0.0.1", 40001) {
			t.Errorf("%s: peers %v, %v", v.build, p, err)
		}
		if ok, err := c.Decommission(t.Context(), "17"); err != nil || !ok {
			t.Errorf("%s: decommission %v, %v", v.build, ok, err)
		}
		if ok, err := c.Decommission(t.Context(), "18"); err != nil || ok {
			t.Errorf("%s: decommission %v, %v", v.build, ok, err)
		}
		for block, want := range map[string]bool{"shuffle_0_1_0.index": true, "shuffle_0_2_0.index": false} {
			if ok, err := c.UpdateBlock(t.Context(), java.FallbackBlockManager(), block, 0, 88); err != nil || ok != want {
				t.Errorf("%s: update of %s: %v, %v", v.build, block, ok, err)
			}
		}
		if c.Dialect() != d {
			t.Errorf("%s: dialect changed", v.build)
		}
	}
}

// TestLearnsNumbers plays a driver whose class numbers are those of another Scala version.
func TestLearnsNumbers(t *testing.T) {
	told, known := dialect(t, "3.5.9", "2.12"), dialect(t, "3.5.9", "2.13")
	s := wiretest.NewServer(t, wiretest.Script{Handle: func(s *wiretest.Session, r wiretest.Request) {
		e, _ := wire.DecodeEndpointMessage(r.Body)
		if string(e.Payload) != string(known.ExecutorDecommissioning("1")) {
			s.Fail(r.ID, fmt.Sprintf("java.io.InvalidClassException: org.apache.spark.scheduler.cluster.CoarseGrainedClusterMessages$ExecutorDecommissioning; local class incompatible: stream classdesc serialVersionUID = %d, local class serialVersionUID = %d\n\tat java.base",
				told.UIDs.ExecutorDecommissioning, known.UIDs.ExecutorDecommissioning))
			return
		}
		s.Answer(r.ID, golden(t, "3.5.9-2.12", "true"))
	}})
	c := client(t, s, told, wire.Options{})
	for range 2 {
		if ok, err := c.Decommission(t.Context(), "1"); err != nil || !ok {
			t.Errorf("%v, %v", ok, err)
		}
	}
	if n := len(s.Requests()); n != 3 {
		t.Errorf("%d requests: the number must be learned once", n)
	}
	if c.Dialect().UIDs.ExecutorDecommissioning != known.UIDs.ExecutorDecommissioning {
		t.Error("nothing learned")
	}
}

// TestLearningEnds plays a driver that is never content.
func TestLearningEnds(t *testing.T) {
	d := dialect(t, "4.3.0", "")
	want := d.UIDs.ExecutorDecommissioning
	s := wiretest.NewServer(t, wiretest.Script{Handle: func(s *wiretest.Session, r wiretest.Request) {
		s.Fail(r.ID, fmt.Sprintf("java.io.InvalidClassException: org.apache.spark.scheduler.cluster.CoarseGrainedClusterMessages$ExecutorDecommissioning; local class incompatible: stream classdesc serialVersionUID = %d, local class serialVersionUID = %d", want, want+1))
		want++
	}})
	if _, err := client(t, s, d, wire.Options{}).Decommission(t.Context(), "1"); err == nil {
		t.Error("no error")
	}
	if n := len(s.Requests()); n != maxLessons+1 {
		t.Errorf("%d requests", n)
	}
}

func TestGone(t *testing.T) {
	d := dialect(t, "4.3.0", "")
	refused := fmt.Sprintf("spark://CoarseGrainedScheduler@127.0.0.1:%d", freePort(t))
	if _, err := Dial(t.Context(), &net.Dialer{}, refused, d, wire.Options{}); !errors.Is(err, ErrGone) {
		t.Errorf("refused: %v", err)
	}
	for name, text := range map[string]string{
		"no endpoint": "org.apache.spark.SparkException: Could not find CoarseGrainedScheduler.\n\tat org.apache.spark.rpc.netty.Dispatcher.postMessage",
		"stopped":     "org.apache.spark.rpc.RpcEnvStoppedException: RpcEnv already stopped.\n\tat",
	} {
		s := wiretest.NewServer(t, wiretest.Script{Handle: func(s *wiretest.Session, r wiretest.Request) { s.Fail(r.ID, text) }})
		if _, err := client(t, s, d, wire.Options{}).Properties(t.Context(), 0); !errors.Is(err, ErrGone) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNotGone(t *testing.T) {
	d := dialect(t, "4.3.0", "")
	for name, handle := range map[string]func(s *wiretest.Session, r wiretest.Request){
		"exception":  func(s *wiretest.Session, r wiretest.Request) { s.Fail(r.ID, "java.lang.OutOfMemoryError: heap") },
		"RpcFailure": func(s *wiretest.Session, r wiretest.Request) { s.Answer(r.ID, broken(t)) },
		"other endpoint": func(s *wiretest.Session, r wiretest.Request) {
			s.Fail(r.ID, "org.apache.spark.SparkException: Could not find Foo.")
		},
		"cut":     func(s *wiretest.Session, r wiretest.Request) { s.Truncate(r.ID, golden(t, "4.3.0-2.13", "true"), 20) },
		"garbage": func(s *wiretest.Session, r wiretest.Request) { s.Answer(r.ID, []byte("hello")) },
		"nothing": func(s *wiretest.Session, r wiretest.Request) { s.Answer(r.ID, nil) },
	} {
		c := client(t, wiretest.NewServer(t, wiretest.Script{Handle: handle}), d, wire.Options{})
		_, errConfig := c.Properties(t.Context(), 0)
		_, errPeers := c.Peers(t.Context(), executor("1", "h", 1))
		_, errTell := c.Decommission(t.Context(), "1")
		_, errUpdate := c.UpdateBlock(t.Context(), java.FallbackBlockManager(), "shuffle_0_1_0.index", 0, 88)
		for _, err := range []error{errConfig, errPeers, errTell, errUpdate} {
			if err == nil || errors.Is(err, ErrGone) || errors.Is(err, ErrSlow) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// broken is a failure that Spark sends as an answer, of an exception that says nothing about the driver's end.
func broken(t *testing.T) []byte {
	return []byte(strings.ReplaceAll(string(golden(t, "4.3.0-2.13", "rpcfailure")), "BlockManagerMaster.", "BlockManagerMister."))
}

func TestSlow(t *testing.T) {
	d := dialect(t, "4.3.0", "")
	stall := wiretest.Script{Handle: func(s *wiretest.Session, _ wiretest.Request) { s.Stall() }}
	c := client(t, wiretest.NewServer(t, stall), d, wire.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Properties(ctx, 0); !errors.Is(err, ErrSlow) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline: %v", err)
	}
	c = client(t, wiretest.NewServer(t, stall), d, wire.Options{Stall: 50 * time.Millisecond})
	if _, err := c.Properties(t.Context(), 0); !errors.Is(err, ErrSlow) || !errors.Is(err, wire.ErrStalled) {
		t.Errorf("stall: %v", err)
	}
}

// TestReconnects breaks the connection at the first request: the next call makes a new one.
func TestReconnects(t *testing.T) {
	d := dialect(t, "4.3.0", "")
	s := wiretest.NewServer(t, wiretest.Script{Handle: func(s *wiretest.Session, r wiretest.Request) {
		if s.Number == 0 {
			s.Reset()
			return
		}
		s.Answer(r.ID, golden(t, "4.3.0-2.13", "true"))
	}})
	c := client(t, s, d, wire.Options{})
	if _, err := c.Decommission(t.Context(), "1"); err == nil || errors.Is(err, ErrGone) {
		t.Errorf("broken connection: %v", err)
	}
	if ok, err := c.Decommission(t.Context(), "1"); err != nil || !ok {
		t.Errorf("new connection: %v, %v", ok, err)
	}
	s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for gone := false; !gone; { // the end of the old connection may be noticed in between
		_, err := c.Decommission(ctx, "1")
		if gone = errors.Is(err, ErrGone); !gone && ctx.Err() != nil {
			t.Fatalf("never gone: %v", err)
		}
	}
}

func TestClosed(t *testing.T) {
	d := dialect(t, "4.3.0", "")
	c := client(t, wiretest.NewServer(t, wiretest.Script{}), d, wire.Options{})
	c.Close()
	if _, err := c.Properties(t.Context(), 0); !errors.Is(err, wire.ErrClosed) {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
