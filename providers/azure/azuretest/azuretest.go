// Package azuretest is a faithful fake of Azure's Instance Metadata Service, as far as Scheduled Events
// and the machine's name go, for tests and demonstrations: it schedules events on demand, and a script of
// faults says what goes wrong with which request. It stands where the cloud stands, before the first
// step of a rescue.
//
// What it copies is documented on Microsoft Learn ("Scheduled Events for Linux VMs", "Azure Instance
// Metadata Service"): paths, the demanded header and versions, the documents, their numbers, what starts
// an event, the delay of the first call, the limit of requests, and the status codes. The pages don't
// say what a StartRequest for an unknown event gets (here 400), nor how long an event stays Started
// (here until it is removed).
package azuretest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lifeboat/lifeboat/providers/metadata/metadatatest"
)

const (
	eventsPath   = "/metadata/scheduledevents"
	instancePath = "/metadata/instance/compute/"

	eventsVersion = "2020-07-01"
)

// VM is the name of the machine that the fake plays: one of a scale set.
const VM = "workers_3"

// The steps that a fault can be limited to.
const (
	Look     metadatatest.Step = "look"     // GET of the events
	Start    metadatatest.Step = "start"    // POST of StartRequests
	Instance metadatatest.Step = "instance" // everything else
)

// Event is a scheduled event. The zero value of a field is what a spot machine sees most.
type Event struct {
	ID          string   // a new UUID when ""
	Type        string   // Preempt when ""
	Resources   []string // VM when nil
	Description string
	Source      string // Platform when ""
	// NotBefore is by the service's clock (see Server.Now), with a resolution of one second. When it is
	// over the event starts. Zero: it has started.
	NotBefore time.Time
	Seconds   int  // DurationInSeconds; -1 (unknown) when 0
	NoImpact  bool // DurationInSeconds is 0
	// Extra are fields of the document besides the documented ones, or instead of them.
	Extra map[string]any
}

// Counts says what was asked so far.
type Counts struct {
	Looks int // answered requests for the events
	Shown int // … that showed at least one
	Names int // answered requests for the machine's name
}

// Server is the fake. All methods may be called at any time by many goroutines.
type Server struct {
	*metadatatest.Server

	mu           sync.Mutex
	vm           string
	events       []Event
	incarnation  int
	raw          string // shown instead of the events
	acknowledged []string
	first        time.Duration // how long the first call takes
	enabled      time.Time     // when the events are switched on; zero before the first call
	limit        int           // requests per second; 0 is no limit
	window       time.Time
	used         int
	counts       Counts
}

// New returns a fake without events and without faults, with the events switched on. It is an http.Handler.
func New() *Server {
	s := &Server{vm: VM, incarnation: 1}
	s.Server = metadatatest.New(metadatatest.Service{
		Header: "IMDS/150.870.65.1854",
		Serve:  s.serve,
		Step:   step,
		Page:   page,
		False: `{"DocumentIncarnation":999999,"Events":[{"EventId":"00000000-0000-0000-0000-000000000000","EventStatus":"Scheduled",` +
			`"EventType":"Preempt","ResourceType":"VirtualMachine","Resources":["` + VM + `"],"NotBefore":"Fri, 31 Dec 1999 23:59:59 GMT"}]}`,
		Broken: func(r *http.Request) string {
			if step(r) == Instance {
				return "<html>\n<body>\nwait\n</body>\n</html>"
			}
			return `{"DocumentIncarnation":2,"Events":[{"EventId":"602d9444-d2cd-49c7-8624-8643e7171297","EventType":"Pre`
		},
	})
	return s
}

// Listen returns a fake that listens on addr, as "127.0.0.1:0". Close ends it.
func Listen(addr string) (*Server, error) {
	s := New()
	return s, s.Server.Listen(addr)
}

// Schedule adds an event and returns its id.
func (s *Server) Schedule(e Event) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	e = complete(e)
	s.events = append(s.events, e)
	s.incarnation++
	return e.ID
}

// Replace makes these the only events, in one step.
func (s *Server) Replace(events ...Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = nil
	for _, e := range events {
		s.events = append(s.events, complete(e))
	}
	s.incarnation++
}

// Begin starts an event.
func (s *Server) Begin(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin(id)
}

// Remove ends an event, or calls it off.
func (s *Server) Remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = slices.DeleteFunc(s.events, func(e Event) bool { return e.ID == id })
	s.incarnation++
}

// Show sends this very document instead of the events; "" ends that.
func (s *Server) Show(document string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw = document
}

// Rename sets the machine's name; with "" the metadata doesn't know it.
func (s *Server) Rename(vm string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vm = vm
}

// FirstCall switches the events off. The next call switches them on, and all are answered only
// after that has taken d.
func (s *Server) FirstCall(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.first, s.enabled = d, time.Time{}
}

// Limit answers 429 to more than n requests in a second, which Azure does with n = 5; 0 ends that.
func (s *Server) Limit(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = n
}

// Acknowledged returns the ids of the events for which a StartRequest came, in order.
func (s *Server) Acknowledged() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.acknowledged)
}

// Counts returns what was asked so far.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// complete fills in what an event leaves open.
func complete(e Event) Event {
	if e.ID == "" {
		var b [16]byte
		_, _ = rand.Read(b[:])
		e.ID = strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]))
	}
	if e.Type == "" {
		e.Type = "Preempt"
	}
	if e.Resources == nil {
		e.Resources = []string{VM}
	}
	if e.Source == "" {
		e.Source = "Platform"
	}
	if e.Seconds == 0 && !e.NoImpact {
		e.Seconds = -1
	}
	return e
}

// begin starts an event and reports whether it exists. The lock is held.
func (s *Server) begin(id string) bool {
	i := slices.IndexFunc(s.events, func(e Event) bool { return strings.EqualFold(e.ID, id) })
	if i < 0 {
		return false
	}
	if !s.events[i].NotBefore.IsZero() {
		s.events[i].NotBefore = time.Time{}
		s.incarnation++
	}
	return true
}

// document is what the service shows. Events whose time has come have started. The lock is held.
func (s *Server) document(now time.Time) string {
	if s.raw != "" {
		return s.raw
	}
	list := []map[string]any{}
	for _, e := range slices.Clone(s.events) {
		if !e.NotBefore.IsZero() && !e.NotBefore.After(now) {
			s.begin(e.ID)
			e.NotBefore = time.Time{}
		}
		status, at := "Started", ""
		if !e.NotBefore.IsZero() {
			status, at = "Scheduled", e.NotBefore.UTC().Format(http.TimeFormat)
		}
		entry := map[string]any{
			"EventId": e.ID, "EventStatus": status, "EventType": e.Type, "ResourceType": "VirtualMachine", "Resources": e.Resources,
			"NotBefore": at, "Description": e.Description, "EventSource": e.Source, "DurationInSeconds": e.Seconds,
		}
		maps.Copy(entry, e.Extra)
		list = append(list, entry)
	}
	b, _ := json.Marshal(struct {
		DocumentIncarnation int
		Events              []map[string]any
	}{s.incarnation, list})
	return string(b)
}
