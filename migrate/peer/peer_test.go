package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/spark/java"
	"github.com/lifeboat/lifeboat/migrate/spark/wire"
	"github.com/lifeboat/lifeboat/migrate/spark/wire/wiretest"
)

const app, executor = "app-1", "3"

func dialect(t testing.TB) java.Dialect {
	t.Helper()
	d, _, ok := java.ForVersion("4.3.0", "2.13")
	if !ok {
		t.Fatal("no dialect of Spark 4.3.0")
	}
	return d
}

// newPeer is a Peer of a server that stands for executor 3.
func newPeer(t testing.TB, s *wiretest.Server, change func(*Options)) *Peer {
	t.Helper()
	o := Options{
		Target:  migrate.Target{Executor: executor, Host: "127.0.0.1", Port: s.Port()},
		App:     app,
		Dialect: dialect(t),
		Dialer:  &net.Dialer{},
	}
	if change != nil {
		change(&o)
	}
	p := New(o)
	t.Cleanup(p.Close)
	return p
}

func newExecutor(t testing.TB, upload func(*wiretest.Session, wiretest.Request) bool) *wiretest.Server {
	return wiretest.NewServer(t, wiretest.Executor{App: app, ID: executor, Upload: upload}.Script())
}

func output(m int64, data []byte) *migrate.Output {
	out := &migrate.Output{ID: migrate.OutputID{App: app, Shuffle: 0, Map: m}, Index: bytes.NewReader([]byte("the index"))}
	if data != nil {
		out.Data = bytes.NewReader(data)
	}
	return out
}

func TestPutSendsDataThenIndex(t *testing.T) {
	tests := []struct {
		name string
		data []byte
		want []string
	}{
		{"data and index", []byte("the data"), []string{"shuffle_0_7_0.data", "shuffle_0_7_0.index"}},
		{"no data file", nil, []string{"shuffle_0_7_0.index"}},
		{"empty data file", []byte{}, []string{"shuffle_0_7_0.index"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newExecutor(t, nil)
			p := newPeer(t, s, nil)
			at, err := p.Put(t.Context(), output(7, test.data))
			if err != nil || !at.Announced || at.Target != p.Target() {
				t.Fatalf("got %+v, %v", at, err)
			}
			if got := s.Blocks(); !slices.Equal(got, test.want) {
				t.Errorf("sent %v", got)
			}
			for _, r := range s.Requests() {
				if _, meta, err := wire.DecodeUploadBlockStream(r.Body); err == nil && !bytes.Equal(meta, dialect(t).UploadMetadata()) {
					t.Errorf("metadata %x", meta)
				}
			}
		})
	}
}

// The index may go out only after the data is acknowledged, not merely sent.
func TestIndexWaitsForTheData(t *testing.T) {
	release := make(chan struct{})
	s := newExecutor(t, func(_ *wiretest.Session, r wiretest.Request) bool {
		if r.Block() == "shuffle_0_7_0.data" {
			<-release
		}
		return true
	})
	p := newPeer(t, s, nil)
	done := make(chan error, 1)
	go func() {
		_, err := p.Put(t.Context(), output(7, []byte("data")))
		done <- err
	}()
	s.Await(t, func() bool { return len(s.Blocks()) == 1 })
	// Another request on the other connection proves that there was time for the index.
	if err := p.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.Blocks(); len(got) != 1 {
		t.Errorf("sent %v", got)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

const trace = "\n\tat java.lang.ClassCastException.<init>(Frames.java:1)\n\tat x.Y.z(Y.java:2)"

func TestNoIndexAfterFailedData(t *testing.T) {
	broken := errors.New("broken disk")
	fail := func(text string) func(*wiretest.Session, wiretest.Request) bool {
		return func(s *wiretest.Session, r wiretest.Request) bool {
			s.Fail(r.ID, text+trace)
			return false
		}
	}
	tests := []struct {
		name   string
		upload func(*wiretest.Session, wiretest.Request) bool
		data   migrate.Blob
		want   migrate.Kind
	}{
		{"leaving", fail("org.apache.spark.storage.BlockSavedOnDecommissionedBlockManagerException: Block shuffle_0_7_0.data cannot be saved on decommissioned executor"), nil, migrate.Elsewhere},
		{"disk full", fail("java.io.IOException: Destination failed while reading stream\n\tat x\nCaused by: java.io.IOException: No space left on device"), nil, migrate.Elsewhere},
		{"over its limit, 3.5", fail("org.apache.spark.SparkException: Not storing remote shuffles 12 exceeds 10"), nil, migrate.Elsewhere},
		{"over its limit, 4.3", fail("org.apache.spark.SparkException: [INTERNAL_ERROR_SHUFFLE] Not storing remote shuffles 12 exceeds 10 SQLSTATE: XX000"), nil, migrate.Elsewhere},
		{"other shuffle manager", fail("org.apache.spark.SparkException: Unexpected shuffle block shuffle_0_7_0.data with unsupported shuffle resolver x.Y@1"), nil, migrate.Elsewhere},
		{"wrong dialect", fail("java.io.InvalidClassException: scala.Tuple2; local class incompatible"), nil, migrate.Elsewhere},
		{"wrong class", fail("java.lang.ClassCastException: class a cannot be cast to class b"), nil, migrate.Elsewhere},
		{"authentication", fail("java.lang.SecurityException: Unauthenticated call to receiveStream()."), nil, migrate.Elsewhere},
		{"anything else", fail("java.io.IOException: Failure post-processing complete stream; failing this rpc and leaving channel active"), nil, migrate.Transient},
		{"reset", func(s *wiretest.Session, _ wiretest.Request) bool { s.Reset(); return false }, nil, migrate.Transient},
		{"closed", func(s *wiretest.Session, _ wiretest.Request) bool { s.Close(); return false }, nil, migrate.Transient},
		{"truncated answer", func(s *wiretest.Session, r wiretest.Request) bool { s.Truncate(r.ID, nil, 12); return false }, nil, migrate.Transient},
		{"stalled", func(s *wiretest.Session, _ wiretest.Request) bool { s.Stall(); return false }, nil, migrate.Transient},
		{"not Spark's protocol", func(s *wiretest.Session, _ wiretest.Request) bool {
			_, _ = s.Write([]byte("HTTP/1.1 400"))
			return false
		}, nil, migrate.Elsewhere},
		{"unreadable data", nil, badBlob{100, broken}, migrate.Corrupt},
		{"unreadable large data", nil, badBlob{10 << 20, broken}, migrate.Corrupt},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newExecutor(t, test.upload)
			p := newPeer(t, s, func(o *Options) { o.Stall = 100 * time.Millisecond })
			out := output(7, []byte("data"))
			if test.data != nil {
				out.Data = test.data
			}
			_, err := p.Put(t.Context(), out)
			if err == nil || migrate.KindOf(err) != test.want {
				t.Errorf("got %v: %v", migrate.KindOf(err), err)
			}
			if got := s.Blocks(); slices.Contains(got, out.ID.IndexBlock()) {
				t.Errorf("sent %v", got)
			}
		})
	}
}

type badBlob struct {
	size int64
	err  error
}

func (b badBlob) Size() int64                       { return b.size }
func (b badBlob) ReadAt([]byte, int64) (int, error) { return 0, b.err }

func TestConnectErrors(t *testing.T) {
	refused := newExecutor(t, nil)
	refused.Close()
	other := wiretest.NewServer(t, wiretest.Executor{App: app, ID: "4"}.Script())
	otherApp := wiretest.NewServer(t, wiretest.Executor{App: "app-2", ID: executor}.Script())
	live := newExecutor(t, nil)
	noAnswer := wiretest.DialFunc(func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	tests := []struct {
		name   string
		server *wiretest.Server
		dialer wire.Dialer
		want   migrate.Kind
	}{
		{"refused", refused, &net.Dialer{}, migrate.Gone},
		{"another executor", other, &net.Dialer{}, migrate.Gone},
		{"another application", otherApp, &net.Dialer{}, migrate.Gone},
		{"no answer", live, noAnswer, migrate.Transient},
		{"no route", live, wiretest.DialFunc(func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("no route to host")
		}), migrate.Transient},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := newPeer(t, test.server, func(o *Options) {
				o.Dialer, o.DialTimeout = test.dialer, 10*time.Millisecond
				if test.name != "no answer" {
					o.DialTimeout = 0
				}
			})
			_, put := p.Put(t.Context(), output(1, []byte("data")))
			announce := p.Announce(t.Context(), []migrate.Located{{Output: output(1, nil), At: migrate.Location{Target: p.Target()}}})
			for what, err := range map[string]error{"put": put, "check": p.Check(t.Context()), "announce": announce} {
				if err == nil || migrate.KindOf(err) != test.want {
					t.Errorf("%s: got %v: %v", what, migrate.KindOf(err), err)
				}
				if errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s: taken for the caller's deadline: %v", what, err)
				}
			}
			if got := test.server.Blocks(); len(got) > 0 {
				t.Errorf("sent %v", got)
			}
		})
	}
}

func TestContextErrorsPassThrough(t *testing.T) {
	s := newExecutor(t, func(*wiretest.Session, wiretest.Request) bool { return false })
	p := newPeer(t, s, nil)
	reason := errors.New("the node goes away")
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := p.Put(ctx, output(1, []byte("data")))
		done <- err
	}()
	s.Await(t, func() bool { return len(s.Blocks()) == 1 })
	cancel(reason)
	err := <-done
	var kind *migrate.Error
	if !errors.Is(err, context.Canceled) || !errors.Is(err, reason) || errors.As(err, &kind) {
		t.Errorf("got %v", err)
	}
	for what, err := range map[string]error{
		"check":    p.Check(ctx),
		"announce": p.Announce(ctx, []migrate.Located{{Output: output(1, nil), At: migrate.Location{Target: p.Target()}}}),
	} {
		if !errors.Is(err, context.Canceled) || errors.As(err, &kind) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if n := len(s.Blocks()); n != 1 {
		t.Errorf("%d blocks sent", n)
	}
}

func TestReconnects(t *testing.T) {
	s := newExecutor(t, func(s *wiretest.Session, r wiretest.Request) bool {
		if s.Number == 0 && r.Block() == "shuffle_0_2_0.data" {
			s.Reset()
			return false
		}
		return true
	})
	p := newPeer(t, s, nil)
	for _, step := range []struct {
		m           int64
		fails       bool
		connections int
	}{{1, false, 1}, {2, true, 1}, {2, false, 2}, {3, false, 2}} {
		_, err := p.Put(t.Context(), output(step.m, []byte("data")))
		if (err != nil) != step.fails {
			t.Errorf("map %d: %v", step.m, err)
		}
		if n := len(s.Sessions()); n != step.connections {
			t.Errorf("after map %d: %d connections, want %d", step.m, n, step.connections)
		}
	}
}

// A connection that breaks between data and index makes the whole Put fail: what listens at the address
// afterwards may be another executor, without the data.
func TestIndexNeverOnAnotherConnection(t *testing.T) {
	s := newExecutor(t, func(s *wiretest.Session, r wiretest.Request) bool {
		s.Answer(r.ID, nil)
		s.Close()
		return false
	})
	p := newPeer(t, s, nil)
	if _, err := p.Put(t.Context(), output(1, []byte("data"))); err == nil {
		t.Error("succeeded")
	}
	if got := s.Blocks(); !slices.Equal(got, []string{"shuffle_0_1_0.data"}) {
		t.Errorf("sent %v", got)
	}
}

func TestParallelPuts(t *testing.T) {
	const n = 60
	s := newExecutor(t, nil)
	p := newPeer(t, s, func(o *Options) { o.Connections = 3 })
	var wg sync.WaitGroup
	for m := range int64(n) {
		wg.Go(func() {
			if _, err := p.Put(t.Context(), output(m, bytes.Repeat([]byte{byte(m)}, int(m)*4000))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	blocks := s.Blocks()
	for m := range int64(n) {
		id := migrate.OutputID{App: app, Map: m}
		data, index := slices.Index(blocks, id.DataBlock()), slices.Index(blocks, id.IndexBlock())
		if index < 0 || m > 0 && (data < 0 || data > index) {
			t.Errorf("map %d: data at %d, index at %d", m, data, index)
		}
	}
	if got := len(s.Sessions()); got != 3 {
		t.Errorf("%d connections", got)
	}
}

func TestStallReleasesAllAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const stall = 10 * time.Second
		script := wiretest.Executor{App: app, ID: executor, Upload: func(*wiretest.Session, wiretest.Request) bool { return false }}.Script()
		p := New(Options{
			Target: migrate.Target{Executor: executor, Host: "peer", Port: 1}, App: app, Dialect: dialect(t), Connections: 1, Stall: stall,
			Dialer: wiretest.DialFunc(func(context.Context, string, string) (net.Conn, error) {
				here, there := net.Pipe()
				go wiretest.Serve(there, script)
				return here, nil
			}),
		})
		defer p.Close()
		begin := time.Now()
		var wg sync.WaitGroup
		for m := range int64(20) {
			wg.Go(func() {
				_, err := p.Put(t.Context(), output(m, []byte("data")))
				if !errors.Is(err, wire.ErrStalled) || migrate.KindOf(err) != migrate.Transient {
					t.Errorf("got %v", err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(begin); took != stall {
			t.Errorf("took %v", took)
		}
	})
}

func TestAnnounceSendsTheIndexAgain(t *testing.T) {
	s := newExecutor(t, func(s *wiretest.Session, r wiretest.Request) bool {
		if r.Block() == "shuffle_0_2_0.index" {
			s.Fail(r.ID, "java.io.IOException: once")
			return false
		}
		return true
	})
	p := newPeer(t, s, nil)
	var at []migrate.Located
	for m := range int64(30) {
		at = append(at, migrate.Located{Output: output(m, []byte("data")), At: migrate.Location{Target: p.Target()}})
	}
	err := p.Announce(t.Context(), at)
	if err == nil || migrate.KindOf(err) != migrate.Transient {
		t.Errorf("got %v", err)
	}
	blocks := s.Blocks()
	for _, a := range at {
		if !slices.Contains(blocks, a.Output.ID.IndexBlock()) {
			t.Errorf("%s was not announced", a.Output.ID)
		}
	}
	if len(blocks) != len(at) {
		t.Errorf("sent %v", blocks)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	s := newExecutor(t, nil)
	p := newPeer(t, s, nil)
	stranger := output(1, []byte("data"))
	stranger.ID.App = "app-2"
	_, put := p.Put(t.Context(), stranger)
	for what, err := range map[string]error{
		"put of another application":      put,
		"announce of another application": p.Announce(t.Context(), []migrate.Located{{Output: stranger, At: migrate.Location{Target: p.Target()}}}),
		"announce of another place":       p.Announce(t.Context(), []migrate.Located{{Output: output(1, nil)}}),
	} {
		if migrate.KindOf(err) != migrate.Elsewhere {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got := s.Requests(); len(got) > 0 {
		t.Errorf("%d requests sent", len(got))
	}
}

func TestCloseEndsPutsAndDials(t *testing.T) {
	s := newExecutor(t, func(*wiretest.Session, wiretest.Request) bool { return false })
	p := newPeer(t, s, nil)
	dialing := make(chan struct{})
	q := newPeer(t, s, func(o *Options) {
		o.Dialer = wiretest.DialFunc(func(ctx context.Context, _, _ string) (net.Conn, error) {
			close(dialing)
			<-ctx.Done()
			return nil, ctx.Err()
		})
	})
	errs := make(chan error, 2)
	for _, peer := range []*Peer{p, q} {
		go func() {
			_, err := peer.Put(t.Context(), output(1, []byte("data")))
			errs <- err
		}()
	}
	s.Await(t, func() bool { return len(s.Blocks()) == 1 })
	<-dialing
	p.Close()
	q.Close()
	for range 2 {
		if err := <-errs; err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	if err := p.Check(t.Context()); !errors.Is(err, errPeerClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestProbe(t *testing.T) {
	right := dialect(t)
	wrong := right
	wrong.UIDs.StorageLevel = 1
	lost := fmt.Sprintf("java.io.InvalidClassException: org.apache.spark.storage.StorageLevel; local class incompatible: stream classdesc serialVersionUID = 1, local class serialVersionUID = %d", right.UIDs.StorageLevel)
	confirmed := "java.lang.ClassCastException: class [Ljava.lang.Object; cannot be cast to class " + right.UploadClass
	tests := []struct {
		name    string
		answers []string // the last one again and again; "" is an acknowledgement
		err     error
		asked   int
	}{
		{"right at once", []string{confirmed}, nil, 1},
		{"learned", []string{lost, confirmed}, nil, 2},
		{"never content", []string{"java.io.IOException: no"}, ErrDialectRefused, 1},
		{"accepted", []string{""}, ErrDialectRefused, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			asked := 0
			s := wiretest.NewServer(t, wiretest.Script{Handle: func(s *wiretest.Session, r wiretest.Request) {
				m, err := wire.DecodeUploadBlock(r.Body)
				if err != nil || m.App != app || len(m.Block) > 0 {
					t.Errorf("asked with %+v, %v", m, err)
				}
				answer := test.answers[min(asked, len(test.answers)-1)]
				asked++
				if answer == "" {
					s.Answer(r.ID, nil)
					return
				}
				s.Fail(r.ID, answer+trace)
			}})
			begin := right
			if test.name == "learned" {
				begin = wrong
			}
			got, err := Probe(t.Context(), &net.Dialer{}, s.Addr(), app, begin)
			s.Close()
			if !errors.Is(err, test.err) || asked != test.asked {
				t.Fatalf("got %v after %d questions", err, asked)
			}
			if err == nil && got.UIDs != right.UIDs {
				t.Errorf("got %+v", got)
			}
			if err != nil && migrate.KindOf(err) != migrate.Elsewhere {
				t.Errorf("got %v: %v", migrate.KindOf(err), err)
			}
		})
	}
}

func TestProbeOfADeadExecutor(t *testing.T) {
	s := newExecutor(t, nil)
	s.Close()
	if _, err := Probe(t.Context(), &net.Dialer{}, s.Addr(), app, dialect(t)); migrate.KindOf(err) != migrate.Gone {
		t.Errorf("got %v", err)
	}
}
