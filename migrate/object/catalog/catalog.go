// Package catalog keeps beside the copies in object storage what it takes to make them count later, and to
// remove them: who wrote which map outputs of which application. Mirrors and rescues write it, salvage and
// clean-up read it.
//
// Everything lies below one folder at the root of the bucket, so that it is found without a look at the copies:
//
//	.lifeboat/<application>/<node>/manifest-<time>-<random>.json  map outputs that the node stores
//	.lifeboat/<application>/<node>/settled-<time>-<random>.json   outputs that need no salvage any more
//	.lifeboat/<application>/<node>/claim-<epoch>.json             who salvages the node's outputs
//	.lifeboat/<application>/<node>/seen-<time>-<random>.json      the application lived then
//
// No object is ever changed. A manifest is written before the outputs that it lists, or while they are written: it
// says what may be there, and a listing of the bucket says what is. So nothing that was stored goes unnoticed when an
// agent dies in between, and all of it can be removed.
package catalog

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/lifeboat/lifeboat/migrate"
	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// root is the folder of all catalogs in a bucket. Spark's own folders there are named by application ids.
const root = ".lifeboat/"

const (
	// maxDocument caps one object of the catalog. MaxEntries outputs need less than half of it.
	maxDocument = 4 << 20
	// MaxEntries is how many outputs one manifest or settlement lists at most.
	MaxEntries = 10_000
)

// Catalog is the catalog in one bucket. Its methods may be called by many goroutines at once.
type Catalog struct {
	bucket bucket.Bucket
	now    func() time.Time
}

// New makes the catalog of a bucket. Nothing is read or written yet.
func New(b bucket.Bucket) *Catalog { return &Catalog{bucket: b, now: time.Now} }

// Place is one node's part of the catalog of one application.
type Place struct {
	App  string
	Node string
}

func (p Place) String() string { return p.App + " from " + p.Node }

// folder is where a place lies. Names that are not plain are escaped, so that none leads elsewhere.
func (p Place) folder() string { return appFolder(p.App) + escape(p.Node) + "/" }

func appFolder(app string) string { return root + escape(app) + "/" }

// escape makes a name one part of a key.
func escape(name string) string {
	e := url.PathEscape(name)
	if strings.Trim(e, ".") == "" { // "." and ".." are folders to a file system
		return strings.ReplaceAll(e, ".", "%2E")
	}
	return e
}

// document is one object of the catalog by its key.
type document struct {
	place Place
	kind  string // the part of its name before the first "-"
	name  string // the rest, without ".json"
	key   string
	size  int64
	at    time.Time
}

const (
	kindManifest = "manifest"
	kindSettled  = "settled"
	kindClaim    = "claim"
	kindSeen     = "seen"
)

// parse understands a key; ok is false for anything that the catalog did not write.
func parse(o bucket.Object) (document, bool) {
	rest, ok := strings.CutPrefix(o.Key, root)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 {
		return document{}, false
	}
	base, ok := strings.CutSuffix(parts[2], ".json")
	kind, name, dash := strings.Cut(base, "-")
	app, appErr := url.PathUnescape(parts[0])
	node, nodeErr := url.PathUnescape(parts[1])
	if !ok || !dash || appErr != nil || nodeErr != nil || app == "" || node == "" {
		return document{}, false
	}
	switch kind {
	case kindManifest, kindSettled, kindClaim, kindSeen:
	default:
		return document{}, false
	}
	p := Place{App: app, Node: node}
	if p.folder()+parts[2] != o.Key {
		return document{}, false
	}
	return document{place: p, kind: kind, name: name, key: o.Key, size: o.Size, at: o.Modified}, true
}

// documents calls each for every document below a folder.
func (c *Catalog) documents(ctx context.Context, folder string, each func(document) error) error {
	return c.bucket.List(ctx, folder, func(o bucket.Object) error {
		d, ok := parse(o)
		if !ok {
			return nil
		}
		return each(d)
	})
}

// ErrBadDocument says that an object of the catalog is not what the catalog writes: it is left alone.
var ErrBadDocument = errors.New("not a document of the catalog")

// load reads one document whole.
func (c *Catalog) load(ctx context.Context, d document) ([]byte, error) {
	if d.size > maxDocument {
		return nil, fmt.Errorf("%s: %w: %d bytes", d.key, ErrBadDocument, d.size)
	}
	r, err := c.bucket.Get(ctx, d.key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxDocument:
		return nil, fmt.Errorf("%s: %w: it has grown", d.key, ErrBadDocument)
	}
	return data, nil
}

// store writes a new document under a name that nobody else uses.
func (c *Catalog) store(ctx context.Context, p Place, kind string, data []byte) error {
	return c.put(ctx, c.newKey(p, kind), data)
}

func (c *Catalog) newKey(p Place, kind string) string {
	return p.folder() + kind + "-" + c.now().UTC().Format("20060102T150405.000") + "-" + unique() + ".json"
}

func (c *Catalog) put(ctx context.Context, key string, data []byte) error {
	return c.bucket.Put(ctx, key, text(data), bucket.PutOptions{IfAbsent: true})
}

func unique() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// text is a body in memory.
type text []byte

func (t text) Size() int64 { return int64(len(t)) }

func (t text) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(t)) {
		return 0, io.EOF
	}
	n := copy(p, t[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// maxPlaces bounds how many places are listed.
const maxPlaces = 200_000

// ErrTooMany says that a catalog has more places than can be looked at; those of one application may be less.
var ErrTooMany = errors.New("too many nodes and applications in the catalog")

// Places lists the places that the catalog knows, of one application or of all ("").
func (c *Catalog) Places(ctx context.Context, app string) ([]Place, error) {
	folder := root
	if app != "" {
		folder = appFolder(app)
	}
	var found placeSet
	err := c.documents(ctx, folder, func(d document) error { return found.add(d.place) })
	return found.list, err
}

// placeSet is places, each once.
type placeSet struct {
	list []Place
	seen map[Place]bool
}

func (s *placeSet) add(p Place) error {
	switch {
	case s.seen[p]:
		return nil
	case len(s.list) >= maxPlaces:
		return ErrTooMany
	case s.seen == nil:
		s.seen = map[Place]bool{}
	}
	s.seen[p] = true
	s.list = append(s.list, p)
	return nil
}

// Ref names one map output within an application.
type Ref struct {
	Shuffle int   `json:"s"`
	Map     int64 `json:"m"`
}

// RefOf is the short name of an output.
func RefOf(id migrate.OutputID) Ref { return Ref{Shuffle: id.Shuffle, Map: id.Map} }

// In is the full name again.
func (r Ref) In(app string) migrate.OutputID {
	return migrate.OutputID{App: app, Shuffle: r.Shuffle, Map: r.Map}
}
