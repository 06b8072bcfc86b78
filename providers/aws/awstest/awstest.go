// Package awstest is a faithful fake of the EC2 instance metadata service (IMDSv2 only) for tests and
// demonstrations: it shows interruptions, recommendations, lifecycle states and scheduled events on
// demand, and a script of faults says what goes wrong with which request. It stands where the cloud
// stands, before the first step of a rescue.
//
// What it copies is documented in the EC2 user guide ("Use the Instance Metadata Service", "Spot
// Instance interruption notices", "EC2 instance rebalance recommendations", "View scheduled events") and
// in the EC2 Auto Scaling user guide ("Retrieve the target lifecycle state through instance metadata"):
// paths, token rules, status codes, the form of the documents. The guides do not give content types;
// text/plain is what most items have.
package awstest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/lifeboat/lifeboat/providers/metadata/metadatatest"
)

const (
	tokenPath     = "/latest/api/token"
	metaPath      = "/latest/meta-data/"
	actionPath    = metaPath + "spot/instance-action"
	timePath      = metaPath + "spot/termination-time"
	rebalancePath = metaPath + "events/recommendations/rebalance"
	lifecyclePath = metaPath + "autoscaling/target-lifecycle-state"
	scheduledPath = metaPath + "events/maintenance/scheduled"
	instancePath  = metaPath + "instance-id"
	partitionPath = metaPath + "services/partition"

	tokenHeader = "X-Aws-Ec2-Metadata-Token"
	ttlHeader   = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"

	// falseNotice is sent where no client may believe it. Its time tells it from every real one.
	falseNotice = `{"action": "terminate", "time": "1999-12-31T23:59:59Z"}`
)

// The steps of one look at the metadata, for faults.
const (
	Token    metadatatest.Step = "token"    // PUT /latest/api/token
	Metadata metadatatest.Step = "metadata" // everything else
)

// InstanceID is the id of the instance that the fake plays.
const InstanceID = "i-0123456789abcdef0"

// Counts says what was asked so far.
type Counts struct {
	Tokens       int // tokens given out
	Looks        int // requests for spot/instance-action that had a valid token
	Shown        int // … that showed a notice
	Unauthorized int // requests refused for want of one valid token, faults not included
}

// Server is the fake, with the faults and the clock of the server below. All methods may be called at any
// time by many goroutines.
type Server struct {
	*metadatatest.Server
	metadatatest.Tokens

	mu        sync.Mutex
	documents map[string]string // path -> document; absent or "" is 404
	counts    Counts
}

// New returns a fake without a notice and without faults, of an instance in no Auto Scaling group. It is an
// http.Handler.
func New() *Server {
	s := &Server{documents: map[string]string{
		metaPath: "autoscaling/\nevents/\ninstance-id\nservices/\nspot/", instancePath: InstanceID, partitionPath: "aws", scheduledPath: "[]",
	}}
	s.Server = metadatatest.New(metadatatest.Service{
		Header: "EC2ws", Serve: s.serve, Page: page, False: falseNotice, Broken: broken, Revoke: s.RevokeTokens,
		Step: func(r *http.Request) metadatatest.Step {
			if r.URL.Path == tokenPath {
				return Token
			}
			return Metadata
		},
	})
	return s
}

// Start returns a fake that listens on addr, as "127.0.0.1:0". Close ends it.
func Start(addr string) (*Server, error) {
	s := New()
	return s, s.Listen(addr)
}

// Announce shows an interruption: action is "terminate", "stop" or "hibernate", at has a resolution of one second.
func (s *Server) Announce(action string, at time.Time) {
	when := stamp(at)
	s.AnnounceDocument(fmt.Sprintf(`{"action": %q, "time": %q}`, action, when))
	s.show(timePath, when)
}

// AnnounceDocument shows this very document as the interruption.
func (s *Server) AnnounceDocument(body string) {
	s.show(timePath, "")
	s.show(actionPath, body)
}

// Withdraw answers 404 to who asks for an interruption.
func (s *Server) Withdraw() { s.AnnounceDocument("") }

// Recommend shows a rebalance recommendation that was made at this time.
func (s *Server) Recommend(at time.Time) {
	s.RecommendDocument(fmt.Sprintf(`{"noticeTime": %q}`, stamp(at)))
}

// RecommendDocument shows this very document as the recommendation; "" is none (404).
func (s *Server) RecommendDocument(body string) { s.show(rebalancePath, body) }

// Lifecycle shows the target lifecycle state, as "InService"; "" is an instance in no Auto Scaling group (404).
func (s *Server) Lifecycle(state string) { s.show(lifecyclePath, state) }

// Event is a scheduled event.
type Event struct {
	ID, Code, Description string
	State                 string // "active" when empty; EC2 moves completed and canceled ones to the history
	NotBefore, NotAfter   time.Time
}

// Schedule shows exactly these events.
func (s *Server) Schedule(events ...Event) {
	list := make([]map[string]string, 0, len(events))
	for _, e := range events {
		if e.State == "" {
			e.State = "active"
		}
		m := map[string]string{
			"EventId": e.ID, "Code": e.Code, "Description": e.Description, "State": e.State, "NotBefore": dated(e.NotBefore),
		}
		if !e.NotAfter.IsZero() {
			m["NotAfter"] = dated(e.NotAfter)
		}
		list = append(list, m)
	}
	body, _ := json.MarshalIndent(list, "", "  ") // strings only
	s.ScheduleDocument(string(body))
}

// ScheduleDocument shows this very document as the list of events; "" is none (404).
func (s *Server) ScheduleDocument(body string) { s.show(scheduledPath, body) }

func (s *Server) show(path, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.documents[path] = body
}

func stamp(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05Z") }

func dated(at time.Time) string { return at.UTC().Format("2 Jan 2006 15:04:05 GMT") }

// Counts returns what was asked so far.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts
	c.Tokens, c.Unauthorized = s.Tokens.Counts()
	return c
}

// serve answers as the metadata service does.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	if r.URL.Path == tokenPath {
		s.giveToken(w, r)
		return
	}
	s.metadata(w, r)
}

// giveToken answers PUT /latest/api/token.
func (s *Server) giveToken(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPut {
		page(w, http.StatusMethodNotAllowed)
		return
	}
	if r.Header.Get("X-Forwarded-For") != "" {
		page(w, http.StatusForbidden)
		return
	}
	ttl := r.Header.Get(ttlHeader)
	token, ok := s.Give(ttl)
	if !ok {
		page(w, http.StatusBadRequest)
		return
	}
	w.Header().Set(ttlHeader, ttl)
	metadatatest.Text(w, "text/plain", token)
}

// metadata answers everything below /latest/meta-data/.
func (s *Server) metadata(w http.ResponseWriter, r *http.Request) {
	left, ok := s.Check(r, tokenHeader)
	if !ok {
		page(w, http.StatusUnauthorized)
		return
	}
	w.Header().Set(ttlHeader, strconv.Itoa(int(left/time.Second)))
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		page(w, http.StatusMethodNotAllowed)
		return
	}
	body := s.document(r.URL.Path)
	if body == "" {
		page(w, http.StatusNotFound)
		return
	}
	w.Header().Set("Accept-Ranges", "none")
	metadatatest.Text(w, "text/plain", body)
}

// document finds what lies at a path; "" is nothing.
func (s *Server) document(path string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	body := s.documents[path]
	if path == actionPath {
		s.counts.Looks++
		if body != "" {
			s.counts.Shown++
		}
	}
	return body
}

// broken is what no client can use: a token with line breaks, or a document that stops in the middle.
func broken(r *http.Request) string {
	switch r.URL.Path {
	case tokenPath, lifecyclePath:
		return "<html>\n<body>\nwait\n</body>\n</html>"
	case scheduledPath:
		return `[{"EventId": "instance-event-0", "Code": "system-reboot", "NotBef`
	default:
		return `{"action": "terminate", "noticeTime": "2017-09-1`
	}
}

// page sends the HTML page that the metadata service shows for a status.
func page(w http.ResponseWriter, status int) {
	title := fmt.Sprintf("%d - %s", status, http.StatusText(status))
	body := `<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"
	"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head>
  <title>` + title + `</title>
 </head>
 <body>
  <h1>` + title + `</h1>
 </body>
</html>
`
	w.Header().Set("Content-Type", "text/html")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}
