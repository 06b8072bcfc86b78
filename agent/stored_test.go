package agent

import (
	"bytes"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/agent/report"
	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/object/bucket"
	"github.com/lifeboat/lifeboat/migrate/object/bucket/folder"
	"github.com/lifeboat/lifeboat/migrate/object/catalog"
)

func lostOne() *report.Report {
	return &report.Report{Applications: []report.Application{{Lost: report.Amount{Outputs: 1}}}}
}

type blobOf struct{ *bytes.Reader }

func (b blobOf) Size() int64 { return b.Reader.Size() }

func outputOf(mapID int64, data string) *migrate.Output {
	out := &migrate.Output{
		ID:    migrate.OutputID{App: "app-1", Shuffle: 1, Map: mapID},
		Index: blobOf{bytes.NewReader(make([]byte, 16))},
	}
	if data != "" {
		out.Data = blobOf{bytes.NewReader([]byte(data))}
	}
	return out
}

// TestOldCopiesAreConfirmed: what a mirror stored long ago may have been removed by somebody since. Then it is not announced
// but stored again.
func TestOldCopiesAreConfirmed(t *testing.T) {
	b, err := folder.Open(t.Context(), folder.Options{Place: bucket.Place{Scheme: "file", Prefix: t.TempDir()}})
	must(t, err)
	stored := newStoredSet()
	c := &catalogued{app: &application{rescue: &rescue{}, stored: stored}, bucket: b}
	put := func(key string, size int) {
		t.Helper()
		must(t, b.Put(t.Context(), key, blobOf{bytes.NewReader(make([]byte, size))}, bucket.PutOptions{}))
	}
	outs := map[string]*migrate.Output{
		"there": outputOf(1, "data"), "without data": outputOf(2, ""), "no index": outputOf(3, "data"),
		"no data": outputOf(4, "data"), "another size": outputOf(5, "data"), "all gone": outputOf(6, "data"),
	}
	for name, out := range outs {
		stored.add(catalog.RefOf(out.ID), out.Bytes())
		data, index := objectLayout(out.ID)
		if name != "no index" && name != "all gone" {
			put(index, 16)
		}
		switch name {
		case "there", "no index":
			put(data, 4)
		case "another size":
			put(data, 3)
		}
	}
	for name, out := range outs {
		if must(t, c.confirm(t.Context(), out)); !stored.has(out) {
			t.Errorf("%s: asked about what was just stored", name)
		}
	}
	stored.now = func() time.Time { return time.Now().Add(2 * storedSure) }
	for name, out := range outs {
		must(t, c.confirm(t.Context(), out))
		if want := name == "there" || name == "without data"; stored.has(out) != want {
			t.Errorf("%s: taken for stored: %v", name, !want)
		}
	}
	must(t, b.Close())
}

// TestDriversAreGoneAfterAWhile: one refusal is no proof, and a driver that was never spoken to proves nothing.
func TestDriversAreGoneAfterAWhile(t *testing.T) {
	s := newStorages()
	now := time.Now()
	s.now = func() time.Time { return now }
	app := catalog.Application{ID: "app-1", Driver: "spark://d:1"}
	s.saw(objectPlace{url: "file:///x"}, app.ID, app.Driver)
	if s.gone(app) {
		t.Error("gone at the first refusal")
	}
	now = now.Add(refusedFor)
	s.answered(app)
	if s.gone(app) {
		t.Error("gone although it has answered since")
	}
	now = now.Add(refusedFor)
	if !s.gone(app) {
		t.Error("not gone after it refused for long")
	}
	for range 2 {
		if s.gone(catalog.Application{ID: "app-1", Driver: "spark://e:1"}) {
			t.Error("a driver that was never spoken to is gone")
		}
		now = now.Add(refusedFor)
	}
	for i := range 2 * maxDrivers {
		now = now.Add(time.Second)
		s.saw(objectPlace{url: "file:///" + time.Duration(i).String()}, time.Duration(i).String(), "d")
	}
	if len(s.drivers) != maxDrivers || len(s.byURL) != maxStorages || s.gone(app) {
		t.Errorf("%d drivers and %d storages are remembered", len(s.drivers), len(s.byURL))
	}
}
