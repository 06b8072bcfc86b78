package gcp

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/providers"
	"github.com/lifeboat/lifeboat/providers/metadata"
)

const (
	eventItem    = "instance/maintenance-event"
	upcomingItem = "instance/upcoming-maintenance"
	policyItem   = "instance/scheduling/on-host-maintenance"

	onHost = "_ON_HOST_MAINTENANCE" // how every value of maintenance-event but NONE ends

	// upcomingEvery is how often the schedule is read: it names times that are hours or days away.
	upcomingEvery = time.Minute
	// policyPatience is how long before a window a policy that can't be read stops being waited for.
	policyPatience = 5 * time.Minute

	windowPrefix = MaintenanceName + "-window-" // of the ids of what the schedule shows

	maxEnded = 1024 // events whose end is remembered; no VM has that many between two boots
)

// Maintenance is the source of host maintenance: maintenance-event, which says a minute before what
// happens, and upcoming-maintenance, the schedule of machine types that have one. Both end: NONE, and a
// schedule that shows nothing or another time, withdraw what was announced.
type Maintenance struct {
	*providers.Poller
	client *client
	event  *item
	o      Options
	boot   string
	every  time.Duration

	// All below is used by polls only, one at a time. Each item has its book: one says nothing about the
	// notices of the other.
	events, windows providers.Book
	due             time.Time      // of the next look at the schedule
	policy          providers.Kind // as read last
	// ended counts the ends of each event: an etag may be the same for the same words.
	ended      map[string]int
	word, base string             // of the event that is shown, and its id as ended knows it
	told       []providers.Notice // what the last answered poll returned and that holds
}

var (
	_ providers.Source = (*Maintenance)(nil)
	_ providers.Sight  = (*Maintenance)(nil)

	_ providers.Recaller = (*Maintenance)(nil)
)

// NewMaintenance checks the options and the environment; it opens no connection.
func NewMaintenance(o Options) (*Maintenance, error) {
	o = o.withDefaults(MaintenanceLead)
	c, err := newClient(o.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", MaintenanceName, err)
	}
	m := &Maintenance{client: c, event: o.item(c, eventItem), o: o, boot: providers.BootID(), every: upcomingEvery, ended: make(map[string]int)}
	m.Poller, err = o.poller(MaintenanceName, 4, m.poll)
	return m, err
}

// Name is "gcp-maintenance".
func (m *Maintenance) Name() string { return MaintenanceName }

// Recall notes what an earlier run had heard; see providers.Recaller.
func (m *Maintenance) Recall(notices []providers.Notice) bool {
	for _, n := range notices {
		book := &m.events
		if strings.HasPrefix(n.ID, windowPrefix) {
			book = &m.windows
		}
		book.Recall([]providers.Notice{n})
	}
	return true
}

// poll looks at both items. News is passed on also when one of them failed; the next poll tells of the
// failure.
func (m *Maintenance) poll(ctx context.Context) ([]providers.Notice, error) {
	windows, windowErr := m.lookUpcoming(ctx)
	events, err := m.lookEvent(ctx)
	if err == nil {
		err = windowErr
	}
	list := slices.Concat(windows, events)
	same := func(a, b providers.Notice) bool {
		return a.ID == b.ID && a.Kind == b.Kind && a.Withdrawn == b.Withdrawn
	}
	if err != nil && slices.EqualFunc(list, m.told, same) {
		return nil, err
	}
	m.told = slices.DeleteFunc(slices.Clone(list), func(n providers.Notice) bool { return n.Withdrawn })
	return list, nil
}

// lookEvent reads maintenance-event and returns what it shows or withdraws; without an answer, what it
// showed last.
func (m *Maintenance) lookEvent(ctx context.Context) ([]providers.Notice, error) {
	a, err := m.event.look(ctx)
	if err != nil {
		return m.events.Kept(), err
	}
	now := time.Now()
	m.SetSkew(providers.Skew(now, a.date))
	kind, word, err := decodeEvent(a)
	if err != nil || word != "" && word == m.word {
		return m.events.Kept(), err // a new etag for the same words is no new event
	}
	if m.word != "" {
		if len(m.ended) >= maxEnded {
			clear(m.ended)
		}
		m.ended[m.base]++
	}
	m.word = word
	var found []providers.Notice
	if word != "" {
		m.base = MaintenanceName + "-" + word + "-" + m.boot + "-" + digest(a.etag)
		n := providers.Notice{ID: m.base, Source: MaintenanceName, Kind: kind, Deadline: now.Add(m.o.Lead), Seen: now}
		if times := m.ended[n.ID]; times > 0 {
			n.ID = fmt.Sprintf("%s-%d", n.ID, times+1)
		}
		if word != "migrate" && word != "terminate" {
			m.o.Log.Warn("unknown maintenance event; taken as one that ends the VM", zap.String("source", MaintenanceName), zap.String("event", word))
		}
		found = append(found, m.events.Keep(n, ""))
	}
	return m.events.Settle(found), nil
}

// decodeEvent reads maintenance-event; the kind is "" for NONE.
func decodeEvent(a answer) (providers.Kind, string, error) {
	if !a.found {
		return "", "", metadata.Failed(providers.Status, "%s: 404: is this a VM of Compute Engine?", eventItem)
	}
	value := strings.TrimSpace(a.value)
	if value == "NONE" {
		return "", "", nil
	}
	word, ok := strings.CutSuffix(value, onHost)
	plain := len(word) > 0 && len(word) <= 32 && !strings.ContainsFunc(word, func(c rune) bool { return c != '_' && (c < 'A' || c > 'Z') })
	if !ok || !plain {
		return "", "", metadata.Failed(providers.Malformed, "%s: %.40q is no maintenance event", eventItem, a.value)
	}
	kind := providers.Maintenance
	if word == "MIGRATE" {
		kind = providers.Pause
	}
	return kind, strings.ToLower(word), nil
}

// lookUpcoming reads the schedule when it is time to, and returns what it shows or withdraws; without an
// answer, what it showed last.
func (m *Maintenance) lookUpcoming(ctx context.Context) ([]providers.Notice, error) {
	if time.Now().Before(m.due) {
		return m.windows.Kept(), nil
	}
	u, date, state, err := m.readUpcoming(ctx)
	if err != nil {
		return m.windows.Kept(), err // and again with the next poll
	}
	now := time.Now()
	skew := providers.Skew(now, date)
	if state == shown && !u.end.IsZero() && u.end.Add(skew).Before(now) {
		state = nothing
	}
	var found []providers.Notice
	if state == shown {
		n, err := m.window(ctx, u, now, skew)
		if err != nil {
			return m.windows.Kept(), err
		}
		found = append(found, m.windows.Keep(n, string(n.Kind)))
	}
	m.due = now.Add(m.every)
	if state == unsaid {
		return m.windows.Kept(), nil
	}
	return m.windows.Settle(found), nil
}

// state is what the schedule says.
type state int

const (
	unsaid  state = iota // no schedule here
	nothing              // no event
	shown
)

// readUpcoming asks for the schedule.
func (m *Maintenance) readUpcoming(ctx context.Context) (upcoming, time.Time, state, error) {
	ctx, cancel := context.WithTimeout(ctx, m.o.Timeout)
	defer cancel()
	a, err := m.client.get(ctx, upcomingItem+"?alt=json")
	var f *failure
	switch {
	case errors.As(err, &f) && f.refusal != nil && f.refusal.status == http.StatusServiceUnavailable:
		none, said := nothingUpcoming(f.refusal.body)
		switch {
		case said:
			return upcoming{}, a.date, nothing, nil
		case none:
			return upcoming{}, a.date, unsaid, nil
		}
		return upcoming{}, a.date, unsaid, err
	case err != nil || !a.found:
		return upcoming{}, a.date, unsaid, err
	}
	u, ok, err := decodeUpcoming(a.value)
	switch {
	case err != nil:
		return u, a.date, unsaid, metadata.Failed(providers.Malformed, "%s: %w", upcomingItem, err)
	case !ok:
		return u, a.date, nothing, nil
	}
	return u, a.date, shown, nil
}

// window makes the notice of an event of the schedule.
func (m *Maintenance) window(ctx context.Context, u upcoming, now time.Time, skew time.Duration) (providers.Notice, error) {
	n := providers.Notice{
		ID: windowPrefix + u.start.Format(time.RFC3339Nano), Source: MaintenanceName, Deadline: u.start.Add(skew), Seen: now,
	}
	kind, err := m.hostPolicy(ctx)
	if err == nil {
		m.policy = kind
	} else if m.policy == "" && n.Deadline.Sub(now) > policyPatience {
		return n, err
	}
	n.Kind = cmp.Or(m.policy, providers.Maintenance)
	if n.Deadline.Before(now) {
		n.Deadline = now.Add(m.o.Lead) // begun, and the VM is still here
	}
	return n, nil
}

// hostPolicy reads what maintenance does to this VM: with MIGRATE it is moved while it runs.
func (m *Maintenance) hostPolicy(ctx context.Context) (providers.Kind, error) {
	ctx, cancel := context.WithTimeout(ctx, m.o.Timeout)
	defer cancel()
	a, err := m.client.get(ctx, policyItem)
	if err != nil {
		return "", err
	}
	if strings.TrimSpace(a.value) == "MIGRATE" {
		return providers.Pause, nil
	}
	return providers.Maintenance, nil
}

// digest is a short name for an etag, which may be any text. An etag names a version of the value, for
// every client and every run of the agent: that is what last_etag compares.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:6])
}
