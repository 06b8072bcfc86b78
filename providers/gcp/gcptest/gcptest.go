// Package gcptest is a faithful fake of Compute Engine's metadata server for tests and demonstrations: it
// preempts and announces maintenance on demand, holds long polls, and can do that badly. It stands where
// the cloud stands, before the first step of a rescue.
//
// What it copies is documented in "View and query VM metadata", "Spot VMs", "Query metadata server for
// maintenance event notices" and "Monitor and plan for a host maintenance event". The 503 of a schedule
// that shows nothing is what the server says in practice; the pages show an empty object.
package gcptest

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lifeboat/lifeboat/providers/metadata/metadatatest"
)

const (
	root = "/computeMetadata/v1/"

	preempted = "instance/preempted"
	event     = "instance/maintenance-event"
	upcoming  = "instance/upcoming-maintenance"
	policy    = "instance/scheduling/on-host-maintenance"

	nothingUpcoming = `{ "error": "no notifications have been received yet, try again later" }`
)

// The values of maintenance-event.
const (
	NoEvent   = "NONE"
	Migrate   = "MIGRATE_ON_HOST_MAINTENANCE"
	Terminate = "TERMINATE_ON_HOST_MAINTENANCE"
)

// The steps of faults: long polls, and all other requests.
const (
	Plain metadatatest.Step = "plain"
	Long  metadatatest.Step = "long"
)

// Manner is how long polls go. The zero value is as documented.
type Manner struct {
	Second       time.Duration // how long a second of timeout_sec is; 0: a second
	CutAfter     time.Duration // the connection ends so long after the request, as behind a proxy; 0: never
	AtOnce       bool          // the server does not wait
	ConstantEtag bool          // all versions of a value have one etag
	NewEtags     bool          // each answer has another etag
	NoEtag       bool
}

// Counts says what was asked so far.
type Counts struct {
	Plain, Long int // requests for items that are watched
	NoFlavor    int // requests refused for want of the header
}

// Server is the fake. All methods may be called at any time by many goroutines.
type Server struct {
	*metadatatest.Server

	mu      sync.Mutex
	values  map[string]string
	version map[string]int
	manner  Manner
	foreign bool
	answers int
	counts  Counts
	changed chan struct{} // closed when a value changes
	cut     chan struct{} // closed when long polls break
}

// New returns a fake of a VM that is left alone, without faults. It does not listen.
func New() *Server {
	s := &Server{
		values: map[string]string{
			"instance/id": "4520031799277581759", "instance/name": "vm-1", "instance/zone": "projects/1/zones/europe-west1-b",
			preempted: "FALSE", event: NoEvent, upcoming: "", policy: "TERMINATE", "instance/scheduling/preemptible": "TRUE",
		},
		version: make(map[string]int), changed: make(chan struct{}), cut: make(chan struct{}),
	}
	s.Server = metadatatest.New(metadatatest.Service{
		Header: "Metadata Server for VM", More: http.Header{"Metadata-Flavor": {"Google"}},
		Serve: s.serve, Step: step, Page: page, False: "TRUE", Broken: broken,
	})
	return s
}

// Start returns a fake that listens on addr, as "127.0.0.1:0". Close ends it. Its URL without the scheme
// is for GCE_METADATA_HOST.
func Start(addr string) (*Server, error) {
	s := New()
	return s, s.Listen(addr)
}

// Host is what GCE_METADATA_HOST takes.
func (s *Server) Host() string { return strings.TrimPrefix(s.URL(), "http://") }

// Preempt takes the VM.
func (s *Server) Preempt() { s.set(preempted, "TRUE") }

// Reboot shows no preemption any more, as when the VM has been started again.
func (s *Server) Reboot() { s.set(preempted, "FALSE") }

// Event shows this maintenance-event: NoEvent, Migrate, Terminate or another text.
func (s *Server) Event(value string) { s.set(event, value) }

// Policy sets what maintenance does to this VM: "MIGRATE" or "TERMINATE".
func (s *Server) Policy(value string) { s.set(policy, value) }

// Schedule shows maintenance in the schedule, with a resolution of one second; status as "PENDING".
func (s *Server) Schedule(start, end time.Time, status string) {
	s.ScheduleDocument(fmt.Sprintf(`{
  "can_reschedule": "true",
  "latest_window_start_time": %[1]q,
  "maintenance_reasons": ["PLANNED_UPDATE"],
  "maintenance_status": %[3]q,
  "type": "SCHEDULED",
  "window_end_time": %[2]q,
  "window_start_time": %[1]q
}`, start.UTC().Format(time.RFC3339), end.UTC().Format(time.RFC3339), status))
}

// ScheduleDocument shows this very document as the schedule; "" is none, which the server answers with 503.
func (s *Server) ScheduleDocument(body string) { s.set(upcoming, body) }

// Behave sets how long polls go from now on.
func (s *Server) Behave(m Manner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.manner = m
}

// Faults replaces the script of faults. One that keeps answers away cuts the long polls that wait, too.
func (s *Server) Faults(faults ...metadatatest.Fault) {
	s.Server.Faults(faults...)
	if len(faults) == 0 || faults[0].Kind == metadatatest.None || faults[0].Kind == metadatatest.Slow {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.cut)
	s.cut = make(chan struct{})
}

// Foreign lets all answers lack Google's header, as those of something else do.
func (s *Server) Foreign(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.foreign = on
}

// Counts returns what was asked so far.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// set makes a new version of a value, also when it is the same.
func (s *Server) set(item, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[item] = value
	s.version[item]++
	close(s.changed)
	s.changed = make(chan struct{})
}

// serve answers as the metadata server does.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.foreign {
		w.Header().Del("Metadata-Flavor")
	}
	s.mu.Unlock()
	if r.Header.Get("Metadata-Flavor") != "Google" || r.Header.Get("X-Forwarded-For") != "" {
		s.mu.Lock()
		s.counts.NoFlavor++
		s.mu.Unlock()
		page(w, http.StatusForbidden)
		return
	}
	item, below := strings.CutPrefix(r.URL.Path, root)
	if !below || r.Method != http.MethodGet {
		page(w, http.StatusNotFound)
		return
	}
	if s.wait(r, item) {
		s.show(w, item)
	}
}

// wait holds a long poll until the value is another than the client knows, or the time is over. It
// returns false when there is nobody to answer any more.
func (s *Server) wait(r *http.Request, item string) bool {
	long := step(r) == Long
	s.mu.Lock()
	m, broken := s.manner, s.cut
	s.count(item, long)
	s.mu.Unlock()
	if !long || m.AtOnce {
		return true
	}
	over := time.NewTimer(m.hold(r))
	defer over.Stop()
	var cut <-chan time.Time
	if m.CutAfter > 0 {
		cut = time.After(m.CutAfter)
	}
	for {
		s.mu.Lock()
		changed, known := s.changed, s.etag(item) == r.URL.Query().Get("last_etag")
		s.mu.Unlock()
		if !known {
			return true
		}
		select {
		case <-changed:
		case <-over.C:
			return true
		case <-cut:
			panic(http.ErrAbortHandler)
		case <-broken:
			panic(http.ErrAbortHandler)
		case <-r.Context().Done():
			return false
		}
	}
}

// hold is how long a long poll waits at most.
func (m Manner) hold(r *http.Request) time.Duration {
	seconds, err := strconv.Atoi(r.URL.Query().Get("timeout_sec"))
	if err != nil || seconds < 0 {
		seconds = 3600
	}
	return time.Duration(seconds) * cmp.Or(m.Second, time.Second)
}

func (s *Server) count(item string, long bool) {
	switch {
	case item != preempted && item != event && item != upcoming:
	case long:
		s.counts.Long++
	default:
		s.counts.Plain++
	}
}

// show writes an item.
func (s *Server) show(w http.ResponseWriter, item string) {
	s.mu.Lock()
	value, known := s.values[item]
	etag := s.etag(item)
	if s.manner.NewEtags {
		s.answers++
		etag += strconv.Itoa(s.answers)
	}
	if s.manner.NoEtag {
		etag = ""
	}
	s.mu.Unlock()
	if !known {
		page(w, http.StatusNotFound)
		return
	}
	if etag != "" {
		w.Header().Set("Etag", etag)
	}
	w.Header().Set("X-Xss-Protection", "0")
	w.Header().Set("X-Frame-Options", "SAMEORIGIN")
	if item != upcoming {
		metadatatest.Text(w, "application/text", value)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if value == "" {
		w.WriteHeader(http.StatusServiceUnavailable)
		value = nothingUpcoming
	}
	_, _ = fmt.Fprint(w, value)
}

// etag names the version of an item.
func (s *Server) etag(item string) string {
	if s.manner.ConstantEtag {
		return "0000000000000000"
	}
	return fmt.Sprintf("%08x%08x", len(item)*2654435761%(1<<32), s.version[item]+1)
}

func step(r *http.Request) metadatatest.Step {
	if r.URL.Query().Get("wait_for_change") == "true" {
		return Long
	}
	return Plain
}

// broken is the beginning of what would be shown.
func broken(r *http.Request) string {
	switch strings.TrimPrefix(r.URL.Path, root) {
	case preempted:
		return "TRU"
	case event:
		return "TERMINATE_ON_HO"
	default:
		return `{"window_start_time": "1999-12-`
	}
}

// page shows a status as Google's front ends do.
func page(w http.ResponseWriter, status int) {
	body := fmt.Sprintf("<!DOCTYPE html>\n<html lang=en>\n  <title>Error %d (%s)!!1</title>\n", status, http.StatusText(status))
	w.Header().Set("Content-Type", "text/html; charset=UTF-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = fmt.Fprint(w, body)
}
