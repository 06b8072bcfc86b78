package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// version of the documents. One of a later version is not read: it may mean something else.
const version = 1

// NoData is the Data of an output whose map task wrote no record: no object is stored for it.
const NoData = -1

// Application is what a salvage needs to know of one without having any of its executors.
type Application struct {
	ID     string `json:"id"`
	Driver string `json:"driver"` // as in an executor's --driver-url
	Spark  string `json:"spark"`  // versions; "" when not known
	Scala  string `json:"scala"`
}

// Executor is one that wrote outputs of a manifest, as Spark's driver knows it.
type Executor struct {
	ID   string `json:"id"`
	Host string `json:"host"`
}

// Entry is one map output that a node stores.
type Entry struct {
	Ref
	Executor  string `json:"x,omitempty"` // who wrote it; "" when not known
	Index     int64  `json:"i"`           // bytes
	Data      int64  `json:"d"`           // bytes, or NoData
	Committed int64  `json:"c"`           // milliseconds since 1970
}

// EntryOf describes an output.
func EntryOf(out *migrate.Output) Entry {
	e := Entry{
		Ref: RefOf(out.ID), Executor: out.Executor, Index: out.Index.Size(), Data: NoData,
		Committed: out.Committed.UnixMilli(),
	}
	if out.Data != nil && out.Data.Size() > 0 {
		e.Data = out.Data.Size()
	}
	return e
}

// Bytes is the size of both files.
func (e Entry) Bytes() int64 { return e.Index + max(e.Data, 0) }

// Manifest says which map outputs a node stores, or is about to.
type Manifest struct {
	Version     int         `json:"version"`
	Agent       string      `json:"agent"` // version of the agent that wrote it
	Node        string      `json:"node"`
	Application Application `json:"application"`
	Executors   []Executor  `json:"executors"`
	Outputs     []Entry     `json:"outputs"`

	// Written is when the storage took it, by the storage's clock.
	Written time.Time `json:"-"`

	key string // of the object that it was read from
}

// Place is where a manifest belongs.
func (m *Manifest) Place() Place { return Place{App: m.Application.ID, Node: m.Node} }

// check refuses what the catalog would not have written.
func (m *Manifest) check(p Place) error {
	switch {
	case m.Version != version:
		return fmt.Errorf("version %d, this agent reads %d", m.Version, version)
	case m.Place() != p:
		return fmt.Errorf("it is about %v", m.Place())
	case m.Application.Driver == "":
		return errors.New("it names no driver")
	case len(m.Outputs) > MaxEntries:
		return fmt.Errorf("it lists %d outputs", len(m.Outputs))
	}
	for _, e := range m.Outputs {
		if err := e.check(); err != nil {
			return err
		}
	}
	return nil
}

func (e Entry) check() error {
	if e.Shuffle < 0 || e.Map < 0 || e.Index < 8 || e.Index%8 != 0 || e.Data < NoData {
		return fmt.Errorf("output %d of shuffle %d has an index of %d bytes and data of %d", e.Map, e.Shuffle, e.Index, e.Data)
	}
	return nil
}

// Write adds manifests to the catalog that list the outputs, as many as are needed. Version and Outputs of m
// are filled in.
func (c *Catalog) Write(ctx context.Context, m Manifest, outputs []Entry) error {
	m.Version = version
	for part := range slices.Chunk(outputs, MaxEntries) {
		m.Outputs = part
		if err := m.check(m.Place()); err != nil {
			return fmt.Errorf("manifest not written: %w", err)
		}
		data, err := json.Marshal(m)
		if err != nil {
			return err
		}
		if err := c.store(ctx, m.Place(), kindManifest, data); err != nil {
			return err
		}
	}
	return nil
}

// Manifests calls each with every manifest of a place. One that can't be understood does not keep the others from
// being read: their errors come back joined, and wrap ErrBadDocument.
func (c *Catalog) Manifests(ctx context.Context, p Place, each func(*Manifest) error) error {
	var bad []error
	err := c.documents(ctx, p.folder()+kindManifest+"-", func(d document) error {
		m, err := c.manifest(ctx, d)
		if errors.Is(err, ErrBadDocument) {
			bad = append(bad, err)
			return nil
		}
		if err != nil {
			return err
		}
		return each(m)
	})
	return errors.Join(append(bad, err)...)
}

// freshOverlap is how much later an object may turn up in a listing than its time says.
const freshOverlap = time.Minute

// Fresh lists an application's catalog once and calls each with the manifests that have come since, as far as since says for
// their place, and with some that are a little older. Those that can't be understood are passed over. Whoever looks again and again reads
// each manifest about once.
func (c *Catalog) Fresh(ctx context.Context, app string, since func(Place) time.Time, each func(*Manifest)) ([]Place, error) {
	var places placeSet
	err := c.documents(ctx, appFolder(app), func(d document) error {
		if err := places.add(d.place); err != nil {
			return err
		}
		if d.kind != kindManifest || d.at.Before(since(d.place).Add(-freshOverlap)) {
			return nil
		}
		m, err := c.manifest(ctx, d)
		switch {
		case err == nil:
			each(m)
		case errors.Is(err, ErrBadDocument), bucket.KindOf(err) == bucket.NotFound:
		default:
			return err
		}
		return nil
	})
	return places.list, err
}

func (c *Catalog) manifest(ctx context.Context, d document) (*Manifest, error) {
	data, err := c.load(ctx, d)
	if err != nil {
		return nil, err
	}
	m, err := decodeManifest(data, d.place)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", d.key, ErrBadDocument, err)
	}
	m.Written, m.key = d.at, d.key
	return m, nil
}

func decodeManifest(data []byte, p Place) (*Manifest, error) {
	m := &Manifest{}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, err
	}
	return m, m.check(p)
}
