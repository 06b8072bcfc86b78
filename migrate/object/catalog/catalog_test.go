package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/object"
	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

var (
	app   = Application{ID: "app-20261121-0001", Driver: "spark://CoarseGrainedScheduler@10.0.0.1:7078", Spark: "4.3.0", Scala: "2.13"}
	place = Place{App: app.ID, Node: "node/1"}
)

func layout(id migrate.OutputID) (data, index string) { return object.DataKey(id), object.IndexKey(id) }

func entry(shuffle int, mapID int64, data int64) Entry {
	return Entry{Ref: Ref{shuffle, mapID}, Executor: "3", Index: 24, Data: data, Committed: 1_795_000_000_000}
}

// put stores the objects of an entry as a mirror would.
func put(t *testing.T, b bucket.Bucket, e Entry) {
	t.Helper()
	data, index := layout(e.In(app.ID))
	if e.Data != NoData {
		mustPut(t, b, data, bytes.Repeat([]byte("d"), int(e.Data)))
	}
	mustPut(t, b, index, bytes.Repeat([]byte("i"), int(e.Index)))
}

func mustPut(t *testing.T, b bucket.Bucket, key string, value []byte) {
	t.Helper()
	if err := b.Put(t.Context(), key, text(value), bucket.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, c *Catalog, entries ...Entry) {
	t.Helper()
	m := Manifest{Agent: "v1", Node: place.Node, Application: app, Executors: []Executor{{"3", "10.0.0.7"}}}
	if err := c.Write(t.Context(), m, entries); err != nil {
		t.Fatal(err)
	}
}

func keys(t *testing.T, b bucket.Bucket) []string {
	t.Helper()
	var list []string
	if err := b.List(t.Context(), "", func(o bucket.Object) error { list = append(list, o.Key); return nil }); err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

func stored(t *testing.T, c *Catalog) ([]Ref, error) {
	t.Helper()
	var refs []Ref
	err := c.Stored(t.Context(), place, layout, func(_ *Manifest, e Entry) error {
		refs = append(refs, e.Ref)
		return nil
	})
	slices.SortFunc(refs, func(a, b Ref) int { return int(a.Map - b.Map) })
	return refs, err
}

func TestManifestsComeBack(t *testing.T) {
	c := New(newBucket(t))
	var entries []Entry
	for i := range MaxEntries + 3 {
		entries = append(entries, entry(1, int64(i), 100))
	}
	write(t, c, entries...)
	var sizes []int
	seen := map[Ref]bool{}
	err := c.Manifests(t.Context(), place, func(m *Manifest) error {
		sizes = append(sizes, len(m.Outputs))
		if m.Application != app || m.Node != place.Node || m.Agent != "v1" || m.Written.IsZero() {
			t.Errorf("manifest %+v", m.Application)
		}
		for _, e := range m.Outputs {
			seen[e.Ref] = true
		}
		return nil
	})
	slices.Sort(sizes)
	if err != nil || !slices.Equal(sizes, []int{3, MaxEntries}) || len(seen) != MaxEntries+3 {
		t.Errorf("manifests of %v outputs, %d different, %v", sizes, len(seen), err)
	}
	places, err := c.Places(t.Context(), "")
	if err != nil || !slices.Equal(places, []Place{place}) {
		t.Errorf("places %v, %v", places, err)
	}
	if places, _ := c.Places(t.Context(), "app-2026"); len(places) != 0 {
		t.Errorf("the beginning of an id found %v", places)
	}
	u, err := c.Usage(t.Context(), place)
	if err != nil || u.Outputs != MaxEntries+3 || u.Bytes != int64(MaxEntries+3)*124 || u.Manifests != 2 || u.Application != app {
		t.Errorf("usage %+v, %v", u, err)
	}
}

// TestStoredIsWhatIsThereWhole: a manifest is written before its outputs, so it may promise what never came.
func TestStoredIsWhatIsThereWhole(t *testing.T) {
	b := newBucket(t)
	c := New(b)
	whole, empty, never, noIndex, noData, short := entry(1, 1, 50), entry(1, 2, NoData), entry(1, 3, 50), entry(1, 4, 50), entry(1, 5, 50), entry(2, 6, 50)
	write(t, c, whole, empty, never, noIndex)
	write(t, c, noData, short, whole)
	for _, e := range []Entry{whole, empty, noIndex, noData, short} {
		put(t, b, e)
	}
	data, _ := layout(noData.In(app.ID))
	_, index := layout(noIndex.In(app.ID))
	for _, key := range []string{data, index} {
		if err := b.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	shortData, _ := layout(short.In(app.ID))
	mustPut(t, b, shortData, []byte("short"))

	refs, err := stored(t, c)
	if err != nil || !slices.Equal(refs, []Ref{whole.Ref, empty.Ref}) {
		t.Errorf("stored %v, %v", refs, err)
	}
	if err := c.Settle(t.Context(), place, "rescue-1", []Ref{whole.Ref}); err != nil {
		t.Fatal(err)
	}
	if refs, err := stored(t, c); err != nil || !slices.Equal(refs, []Ref{empty.Ref}) {
		t.Errorf("after one was settled: %v, %v", refs, err)
	}
}

func TestOutputIsReadFromTheBucket(t *testing.T) {
	b := &counting{Bucket: newBucket(t)}
	c := New(b)
	e := entry(1, 7, 1<<20)
	put(t, b, e)
	out := c.Output(t.Context(), app.ID, e, layout)
	if out.ID != e.In(app.ID) || out.Bytes() != e.Bytes() || out.Executor != "3" {
		t.Fatalf("output %+v", out)
	}
	got, err := io.ReadAll(struct{ io.Reader }{io.NewSectionReader(out.Data, 0, out.Data.Size())})
	if err != nil || len(got) != 1<<20 || strings.Trim(string(got), "d") != "" {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	if n := b.gets; n != 1 {
		t.Errorf("reading from the beginning to the end took %d requests", n)
	}
	if n, err := out.Data.ReadAt(make([]byte, 10), 1<<20-4); n != 4 || !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %d, %v", n, err)
	}
	_, index := layout(out.ID)
	if err := b.Delete(t.Context(), index); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Index.ReadAt(make([]byte, 8), 0); migrate.KindOf(err) != migrate.Corrupt {
		t.Errorf("an object that has gone: %v", err)
	}
	if got := c.Output(t.Context(), app.ID, entry(1, 8, NoData), layout); got.Data != nil {
		t.Error("an output without data got some")
	}
}

// TestRemoveTouchesOnlyWhatIsListed is the promise of the clean-up.
func TestRemoveTouchesOnlyWhatIsListed(t *testing.T) {
	b := newBucket(t)
	c := New(b)
	mine := []Entry{entry(1, 1, 10), entry(1, 2, NoData), entry(2, 3, 10)}
	write(t, c, mine...)
	for _, e := range mine {
		put(t, b, e)
	}
	put(t, b, entry(1, 99, 10)) // stored by Spark itself
	mustPut(t, b, "another/object", []byte("x"))
	mustPut(t, b, place.folder()+"notes.txt", []byte("x"))
	if _, err := c.Claim(t.Context(), place, "a", time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := c.Settle(t.Context(), place, "r", []Ref{{1, 1}}); err != nil {
		t.Fatal(err)
	}
	foreign := entry(1, 99, 10).In(app.ID)
	data, index := layout(foreign)
	want := []string{data, index, "another/object", place.folder() + "notes.txt"}
	slices.Sort(want)

	before := keys(t, b)
	r, err := c.Remove(t.Context(), place, layout, true)
	if err != nil || r != (Removed{Outputs: 3, Bytes: 3*24 + 20}) || !slices.Equal(keys(t, b), before) {
		t.Errorf("dry run: %+v, %v", r, err)
	}
	if r, err = c.Remove(t.Context(), place, layout, false); err != nil || r.Outputs != 3 {
		t.Errorf("removed %+v, %v", r, err)
	}
	if got := keys(t, b); !slices.Equal(got, want) {
		t.Errorf("left is %v, want %v", got, want)
	}
}

func TestRemoveGoesOnAfterTrouble(t *testing.T) {
	b := &counting{Bucket: newBucket(t)}
	c := New(b)
	e := entry(1, 1, 10)
	write(t, c, e)
	put(t, b, e)
	b.failDeletes = true
	if _, err := c.Remove(t.Context(), place, layout, false); err == nil {
		t.Fatal("the trouble was not reported")
	}
	if places, _ := c.Places(t.Context(), app.ID); len(places) != 1 {
		t.Fatal("the manifest went before its outputs")
	}
	b.failDeletes = false
	if _, err := c.Remove(t.Context(), place, layout, false); err != nil || len(keys(t, b)) != 0 {
		t.Errorf("left %v, %v", keys(t, b), err)
	}
}

func TestDocumentsOfOthersAreRefused(t *testing.T) {
	good, _ := json.Marshal(Manifest{Version: 1, Node: place.Node, Application: app, Outputs: []Entry{entry(1, 1, 10)}})
	edit := func(change func(m map[string]any)) string {
		m := map[string]any{}
		_ = json.Unmarshal(good, &m)
		change(m)
		text, _ := json.Marshal(m)
		return string(text)
	}
	for name, text := range map[string]string{
		"cut":           string(good[:len(good)/2]),
		"later version": edit(func(m map[string]any) { m["version"] = 2 }),
		"another node":  edit(func(m map[string]any) { m["node"] = "node-2" }),
		"another app":   edit(func(m map[string]any) { m["application"] = Application{ID: "app-2", Driver: "d"} }),
		"no driver":     edit(func(m map[string]any) { m["application"] = Application{ID: app.ID} }),
		"negative map":  edit(func(m map[string]any) { m["outputs"] = []Entry{entry(1, -1, 10)} }),
		"odd index":     edit(func(m map[string]any) { m["outputs"] = []Entry{{Ref: Ref{1, 1}, Index: 7, Data: 1}} }),
		"bad data":      edit(func(m map[string]any) { m["outputs"] = []Entry{{Ref: Ref{1, 1}, Index: 8, Data: -2}} }),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBucket(t)
			c := New(b)
			fine := entry(3, 3, NoData)
			write(t, c, fine)
			put(t, b, fine)
			bad := place.folder() + "manifest-1-bad.json"
			mustPut(t, b, bad, []byte(text))
			refs, err := stored(t, c)
			if !errors.Is(err, ErrBadDocument) || !slices.Equal(refs, []Ref{fine.Ref}) {
				t.Errorf("stored %v, %v", refs, err)
			}
			if _, err := c.Remove(t.Context(), place, layout, false); !errors.Is(err, ErrBadDocument) {
				t.Errorf("removed: %v", err)
			}
			if !slices.Contains(keys(t, b), bad) {
				t.Error("a document that nobody understands was removed")
			}
		})
	}
	if err := New(newBucket(t)).Write(t.Context(), Manifest{Node: "n", Application: Application{ID: "a"}}, []Entry{entry(1, 1, 1)}); err == nil {
		t.Error("a manifest that could not be read was written")
	}
}

func TestHugeDocumentIsNotRead(t *testing.T) {
	b := newBucket(t)
	c := New(b)
	mustPut(t, b, place.folder()+"manifest-1-huge.json", make([]byte, maxDocument+1))
	if _, err := c.Usage(t.Context(), place); !errors.Is(err, ErrBadDocument) {
		t.Errorf("got %v", err)
	}
}

// TestNamesStayInTheirFolder: an application id or a node name that looks like a path leads nowhere else.
func TestNamesStayInTheirFolder(t *testing.T) {
	b := newBucket(t)
	c := New(b)
	for _, p := range []Place{{"..", "n"}, {"a", ".."}, {"a/b", "../../n"}, {".", "."}, {"a b", "ñ%2F"}} {
		m := Manifest{Agent: "v", Node: p.Node, Application: Application{ID: p.App, Driver: "d"}}
		if err := c.Write(t.Context(), m, []Entry{entry(1, 1, 1)}); err != nil {
			t.Fatal(err)
		}
		if places, err := c.Places(t.Context(), p.App); err != nil || !slices.Contains(places, p) {
			t.Errorf("%v: found %v, %v", p, places, err)
		}
	}
	for _, k := range keys(t, b) {
		if !strings.HasPrefix(k, root) || strings.Count(k, "/") != 3 {
			t.Errorf("written to %s", k)
		}
	}
}

func FuzzDecode(f *testing.F) {
	good, _ := json.Marshal(Manifest{Version: 1, Node: place.Node, Application: app, Outputs: []Entry{entry(1, 1, 10)}})
	f.Add(good)
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeManifest(data, place)
		if err != nil {
			return
		}
		if m.Place() != place || len(m.Outputs) > MaxEntries {
			t.Errorf("accepted %+v", m)
		}
		for _, e := range m.Outputs {
			if e.check() != nil {
				t.Errorf("accepted %+v", e)
			}
		}
		_ = settledBy(data, maps.Clone(map[Ref]bool{}))
	})
}

// counting is a bucket that counts what is read and can refuse to delete.
type counting struct {
	bucket.Bucket
	gets        int
	failDeletes bool
	onDelete    func() // may be nil
}

func (c *counting) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	c.gets++
	return c.Bucket.Get(ctx, key, off, n)
}

func (c *counting) Delete(ctx context.Context, key string) error {
	if c.failDeletes {
		return &bucket.Error{Op: "delete", Kind: bucket.Denied, Err: errors.New("not today")}
	}
	if c.onDelete != nil {
		c.onDelete()
	}
	return c.Bucket.Delete(ctx, key)
}

// TestManifestOfTheMeantimeStays: what is listed while a place is removed is not forgotten.
func TestManifestOfTheMeantimeStays(t *testing.T) {
	b := &counting{Bucket: newBucket(t)}
	c := New(b)
	first, late := entry(1, 1, 10), entry(1, 2, 10)
	write(t, c, first)
	put(t, b, first)
	b.onDelete = func() {
		b.onDelete = nil
		write(t, c, late)
		put(t, b, late)
	}
	if _, err := c.Remove(t.Context(), place, layout, false); err != nil {
		t.Fatal(err)
	}
	if refs, err := stored(t, c); err != nil || !slices.Equal(refs, []Ref{late.Ref}) {
		t.Errorf("left %v, %v", refs, err)
	}
	if _, err := c.Remove(t.Context(), place, layout, false); err != nil || len(keys(t, b)) != 0 {
		t.Errorf("left %v, %v", keys(t, b), err)
	}
}

func TestSignsOfLife(t *testing.T) {
	b := newBucket(t)
	c := New(b)
	if at, err := c.LastSign(t.Context(), app.ID); !at.IsZero() || err != nil {
		t.Errorf("of nothing: %v, %v", at, err)
	}
	if _, err := c.Clock(t.Context(), place); err == nil {
		t.Error("a time without a claim")
	}
	note := ""
	for range 3 {
		var err error
		if note, err = c.Seen(t.Context(), place, note); err != nil {
			t.Fatal(err)
		}
	}
	if got := keys(t, b); len(got) != 1 || got[0] != note {
		t.Errorf("notes %v", got)
	}
	if at, err := c.LastSign(t.Context(), app.ID); err != nil || time.Since(at) > time.Minute {
		t.Errorf("seen at %v, %v", at, err)
	}
	if ok, err := c.Claim(t.Context(), place, "a", time.Minute); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if at, err := c.Clock(t.Context(), place); err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("the time is %v, %v", at, err)
	}
	if _, err := c.Remove(t.Context(), place, layout, false); err != nil || len(keys(t, b)) != 0 {
		t.Errorf("left %v, %v", keys(t, b), err)
	}
}

// TestCatalogWithoutEnd: a bucket that others write to can hold any number of manifests.
func TestCatalogWithoutEnd(t *testing.T) {
	c := New(newBucket(t))
	entries := make([]Entry, MaxEntries)
	for n := 0; n <= maxListed; n += MaxEntries {
		for i := range entries {
			entries[i] = entry(1, int64(n+i), NoData)
		}
		write(t, c, entries...)
	}
	got, err := c.listed(t.Context(), place, nil)
	if !errors.Is(err, ErrBadDocument) || len(got[1]) != maxListed {
		t.Errorf("%d outputs, %v", len(got[1]), err)
	}
}

// TestFreshReadsManifestsOnce: whoever looks again and again is shown only what came since.
func TestFreshReadsManifestsOnce(t *testing.T) {
	b := &counting{Bucket: newBucket(t)}
	c := New(b)
	write(t, c, entry(1, 1, 10))
	write(t, c, entry(1, 2, 10))
	mustPut(t, b, place.folder()+"manifest-1-bad.json", []byte("{"))
	if err := c.Settle(t.Context(), place, "r", []Ref{{1, 1}}); err != nil {
		t.Fatal(err)
	}
	newest := time.Time{}
	fresh := func() (n int) {
		t.Helper()
		places, err := c.Fresh(t.Context(), app.ID, func(Place) time.Time { return newest }, func(m *Manifest) { n++ })
		if err != nil || !slices.Equal(places, []Place{place}) {
			t.Errorf("places %v, %v", places, err)
		}
		return n
	}
	if n := fresh(); n != 2 {
		t.Errorf("%d manifests at first", n)
	}
	newest = time.Now()
	if n := fresh(); n != 2 {
		t.Errorf("%d of the last moment: a listing may be late", n)
	}
	newest = time.Now().Add(2 * freshOverlap)
	b.gets = 0
	if n := fresh(); n != 0 || b.gets != 0 {
		t.Errorf("%d manifests that are old were read, in %d requests", n, b.gets)
	}
}

func TestPlacesHaveAnEnd(t *testing.T) {
	var s placeSet
	for i := range maxPlaces {
		if err := s.add(Place{App: "a", Node: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.add(Place{App: "a", Node: "0"}); err != nil || len(s.list) != maxPlaces {
		t.Errorf("one that is known: %v", err)
	}
	if err := s.add(Place{App: "b", Node: "0"}); !errors.Is(err, ErrTooMany) {
		t.Errorf("one too many: %v", err)
	}
}
