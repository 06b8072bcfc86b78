package kube

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/lifeboat/lifeboat/providers"
)

const (
	// maxObjects that are kept. A kubelet runs 110 pods unless told otherwise, and one Node object has the name.
	maxObjects = 2000
	// lasting is how long the API server is asked to keep a watch open, in seconds. It may end it sooner.
	lasting = 600
	// steady is how long a watch must have lasted so that its being cut is no news: gateways do that, and API servers that are
	// replaced. What was missed comes with the next watch; if that can't be had, it is trouble.
	steady = 5 * time.Second
	// firstRetry is the pause after the first failure.
	firstRetry = 200 * time.Millisecond
)

// object is what a watch keeps of an object of the API: each type decodes only what it needs.
type object interface{ meta() *metadata }

// metadata is what is needed of every object's metadata.
type metadata struct {
	Name                       string                      `json:"name"`
	UID                        string                      `json:"uid"`
	ResourceVersion            string                      `json:"resourceVersion"`
	Labels                     map[string]string           `json:"labels"`
	Annotations                map[string]string           `json:"annotations"`
	DeletionTimestamp          *metav1.Time                `json:"deletionTimestamp"`
	DeletionGracePeriodSeconds *int64                      `json:"deletionGracePeriodSeconds"`
	ManagedFields              []metav1.ManagedFieldsEntry `json:"managedFields"`
}

// follower keeps the objects of one kind that a selector names as the API server has them: a list, then a watch, again and
// again. What it has stays as it is while the API server is away.
type follower[T object] struct {
	cluster *Cluster
	path    string     // as /api/v1/pods
	query   url.Values // selectors
	// exact asks for lists that are not older than this moment, which cost the API server more. It is for objects whose state
	// can go back: of all others an old state is only one that has not got as far yet, and the watch brings the rest. Later
	// lists are never older than what was seen.
	exact bool
	// page is how many objects a list is asked for at once; 0 asks for all of them. Only exact lists have pages.
	page int
	// most objects that are kept.
	most     int
	timeouts struct{ begin, silence, retry time.Duration }
	reduce   func(T) // takes out what is not needed any more
	wake     chan struct{}

	mu      sync.Mutex
	objects map[string]T // by UID; nil before the first list of a run
	err     error        // why it is not known whether objects are up to date; nil: they are
	heardAt time.Time    // when the API server said something last
	skew    time.Duration
	fresh   bool          // something was learned that nobody has looked at
	changed chan struct{} // closed when any of these has changed

	// Only run uses these.
	version string // where the next watch begins; "": list
	seen    string // the newest version that was seen
	newest  bool   // the next list is exact: what was seen can't be had
	barren  int    // watches in a row that failed without a word
}

// newFollower makes one for a path and its selectors.
func newFollower[T object](o Options, path string, query url.Values) *follower[T] {
	f := &follower[T]{
		cluster: o.Cluster, path: path, query: query, most: maxObjects, wake: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	f.timeouts.begin, f.timeouts.silence, f.timeouts.retry = o.Timeout, o.Silence, o.Retry
	return f
}

// run follows until ctx ends. A new run begins with a list.
func (f *follower[T]) run(ctx context.Context) {
	pauses := &backoff.ExponentialBackOff{
		InitialInterval: min(firstRetry, f.timeouts.retry), MaxInterval: f.timeouts.retry,
		Multiplier: 2, RandomizationFactor: 0.3,
	}
	pauses.Reset()
	f.version = ""
	f.update(func() { f.objects, f.err, f.fresh = nil, nil, false })
	for {
		began := time.Now()
		heard, err := f.session(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errGone):
			f.version, err = "", nil
		case err != nil:
			f.set(err)
		}
		// A session that lasted, or that heard something and ended well, was no failure.
		if heard && err == nil || time.Since(began) > f.timeouts.retry {
			pauses.Reset()
		}
		timer := time.NewTimer(pauses.NextBackOff())
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// session lists if it must, and watches until the watch ends. heard says whether the watch said anything.
func (f *follower[T]) session(ctx context.Context) (heard bool, err error) {
	if f.version == "" {
		if err := f.list(ctx); err != nil {
			return false, err
		}
	}
	heard, err = f.watch(ctx)
	if f.barren++; heard || err == nil {
		f.barren = 0
	}
	// Where lists are answered and watches are not (a permission, a proxy), a list now and then is better than nothing.
	if f.barren >= 2 {
		f.version = ""
	}
	return heard, err
}

// list replaces what is known.
func (f *follower[T]) list(ctx context.Context) error {
	query := copyOf(f.query)
	switch {
	case f.exact, f.newest:
	case f.seen == "":
		query.Set("resourceVersion", "0")
	default:
		query.Set("resourceVersion", f.seen)
		query.Set("resourceVersionMatch", "NotOlderThan")
	}
	if f.page > 0 {
		query.Set("limit", strconv.Itoa(f.page))
	}
	objects := make(map[string]T)
	for {
		rest, date, err := f.part(ctx, query, objects)
		switch {
		case err != nil:
			return err
		case rest.Continue != "" && f.page == 0:
			return failed(providers.Malformed, "list of %s: the answer is no whole list", f.path)
		case rest.Continue != "":
			query.Set("continue", rest.Continue)
			continue
		}
		f.version, f.seen, f.newest = rest.ResourceVersion, rest.ResourceVersion, false
		f.update(func() {
			f.objects, f.err, f.heardAt, f.fresh = objects, nil, time.Now(), true
			f.measure(date)
		})
		return nil
	}
}

// part reads one page of a list, or all of it, into objects.
func (f *follower[T]) part(ctx context.Context, query url.Values, objects map[string]T) (metav1.ListMeta, time.Time, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, f.timeouts.begin, fmt.Errorf("list of %s: %v are over", f.path, f.timeouts.begin))
	defer cancel()
	a, err := f.cluster.get(ctx, f.path, query)
	if err != nil {
		// Another API server, or one whose store was restored, may never get to the version that was seen.
		f.newest = f.seen != "" && answered(err)
		return metav1.ListMeta{}, time.Time{}, err
	}
	defer a.body.Close()
	var page struct {
		Kind     string          `json:"kind"`
		Metadata metav1.ListMeta `json:"metadata"`
		Items    []T             `json:"items"`
	}
	err = decode(ctx, &capped{Reader: a.body, left: maxList}, &page)
	switch {
	case err != nil:
		return page.Metadata, a.date, err
	case page.Metadata.ResourceVersion == "" || page.Kind == "", page.Metadata.Continue != "" && len(page.Items) == 0:
		return page.Metadata, a.date, failed(providers.Malformed, "list of %s: the answer is no whole list", f.path)
	case len(objects)+len(page.Items) > f.most:
		return page.Metadata, a.date, failed(providers.Malformed, "list of %s: more than %d objects", f.path, f.most)
	}
	for _, item := range page.Items {
		if item.meta().UID == "" {
			return page.Metadata, a.date, failed(providers.Malformed, "list of %s: an object has no uid", f.path)
		}
		f.reduce(item)
		objects[item.meta().UID] = item
	}
	return page.Metadata, a.date, nil
}

// decode reads one JSON document.
func decode(ctx context.Context, r io.Reader, into any) error {
	body, err := io.ReadAll(r)
	switch {
	case ctx.Err() != nil:
		return unreachable(ctx, ctx.Err())
	case err != nil:
		return failed(providers.Malformed, "the answer breaks off: %w", err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return failed(providers.Malformed, "the answer can't be read: %w", err)
	}
	return nil
}

// watch passes on what happens after the version, until the API server or the network ends it. An end that the API server
// chose is no error: that happens every few minutes.
func (f *follower[T]) watch(ctx context.Context) (heard bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := time.AfterFunc(f.timeouts.begin, func() { cancel(fmt.Errorf("watch of %s: %v are over", f.path, f.timeouts.begin)) })
	defer limit.Stop()
	query := copyOf(f.query)
	query.Set("watch", "true")
	query.Set("allowWatchBookmarks", "true")
	query.Set("timeoutSeconds", strconv.Itoa(lasting))
	query.Set("resourceVersion", f.version)
	a, err := f.cluster.get(ctx, f.path, query)
	if err != nil {
		return false, err
	}
	defer a.body.Close()
	silence := time.AfterFunc(f.timeouts.silence, func() {
		cancel(fmt.Errorf("watch of %s: nothing was said for %v", f.path, f.timeouts.silence))
	})
	defer silence.Stop()
	limit.Stop()
	f.update(func() {
		f.err, f.heardAt = nil, time.Now()
		f.measure(a.date)
	})
	began := time.Now()
	lines := bufio.NewScanner(a.body)
	lines.Buffer(make([]byte, 0, 16<<10), maxEvent)
	for lines.Scan() && lines.Err() == nil { // what comes before a broken connection may be half an event
		if err := f.event(lines.Bytes()); err != nil {
			return heard, err
		}
		heard = true
		silence.Reset(f.timeouts.silence)
	}
	return heard, ended(ctx, lines.Err(), time.Since(began))
}

// ended says why a watch that lasted so long is over; nil when that is nothing to speak of.
func ended(ctx context.Context, err error, lasted time.Duration) error {
	cut := errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
	switch {
	case err == nil, cut && lasted > steady && ctx.Err() == nil:
		return nil
	case errors.Is(err, bufio.ErrTooLong):
		return failed(providers.Malformed, "an event is longer than %d bytes", maxEvent)
	default:
		return unreachable(ctx, err)
	}
}

// event takes one line of a watch.
func (f *follower[T]) event(line []byte) error {
	var e struct {
		Type   watch.EventType `json:"type"`
		Object json.RawMessage `json:"object"`
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return failed(providers.Malformed, "an event can't be read: %w", err)
	}
	if e.Type == watch.Error {
		var status metav1.Status
		if err := json.Unmarshal(e.Object, &status); err != nil || status.Code == 0 {
			return failed(providers.Status, "the API server ends the watch%s", shorten(status.Message))
		}
		return statusError(int(status.Code), status)
	}
	var o T
	if err := json.Unmarshal(e.Object, &o); err != nil {
		return failed(providers.Malformed, "an event's object can't be read: %w", err)
	}
	m := o.meta()
	if m.ResourceVersion == "" || m.UID == "" && e.Type != watch.Bookmark {
		return failed(providers.Malformed, "an event's object has no version or no uid")
	}
	return f.apply(e.Type, o)
}

// apply takes one event into what is known.
func (f *follower[T]) apply(what watch.EventType, o T) error {
	m := o.meta()
	f.reduce(o)
	var err error
	f.update(func() {
		f.heardAt, f.fresh = time.Now(), true
		switch what {
		case watch.Added, watch.Modified:
			if _, known := f.objects[m.UID]; !known && len(f.objects) >= f.most {
				err = failed(providers.Malformed, "watch of %s: more than %d objects", f.path, f.most)
				return
			}
			f.objects[m.UID] = o
		case watch.Deleted:
			delete(f.objects, m.UID)
		case watch.Bookmark:
		default: // a type that is new to us changes nothing here
		}
	})
	if err == nil {
		f.version, f.seen = m.ResourceVersion, m.ResourceVersion
	}
	return err
}

// measure takes the API server's clock. mu is held.
func (f *follower[T]) measure(date time.Time) {
	if !date.IsZero() {
		f.skew = providers.Skew(time.Now(), date)
	}
}

// set notes how a session ended.
func (f *follower[T]) set(err error) { f.update(func() { f.err = err }) }

// update changes what is known and says so to those who wait.
func (f *follower[T]) update(change func()) {
	f.mu.Lock()
	change()
	close(f.changed)
	f.changed = make(chan struct{})
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// snapshot returns what is known, in a fixed order; before the first answer, or failure, it waits. What was learned is
// returned once also when there is trouble since.
func (f *follower[T]) snapshot(ctx context.Context) ([]T, time.Duration, error) {
	for {
		f.mu.Lock()
		err, changed, skew := f.err, f.changed, f.skew
		var all []T
		for _, o := range f.objects {
			all = append(all, o)
		}
		ready := f.objects != nil || err != nil
		if f.fresh {
			err, f.fresh = nil, false
		}
		f.mu.Unlock()
		if ready {
			slices.SortFunc(all, func(a, b T) int { return cmp.Compare(a.meta().UID, b.meta().UID) })
			return all, skew, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, 0, errNoAnswer
		}
	}
}

func (f *follower[T]) heard() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.heardAt
}

func copyOf(v url.Values) url.Values {
	c := make(url.Values, len(v)+4)
	for k, all := range v {
		c[k] = all
	}
	return c
}
