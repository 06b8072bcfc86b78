// Package tencenttest is a faithful fake of the metadata service of Tencent Cloud's CVM, as far as the
// interruption of spot instances goes, for tests and demonstrations. It stands where the cloud stands, before the first
// step of a rescue.
//
// What it copies is documented ("Querying the Reclamation Status of a Spot Instance", "Querying Instance
// Metadata"): paths, forms, and 404 for what is not there. Neither headers nor other failures are documented.
package tencenttest

import (
	"net/http"
	"sync"
	"time"

	"github.com/lifeboat/lifeboat/providers/metadata/metadatatest"
)

const (
	timePath = "/latest/meta-data/spot/termination-time"
	idPath   = "/latest/meta-data/instance-id"

	// InstanceID is the id of the instance that the fake plays.
	InstanceID = "ins-3g445roi"
)

// Server is the fake. All methods may be called at any time by many goroutines.
type Server struct {
	*metadatatest.Server

	mu sync.Mutex
	at string
}

// Listen returns a fake without a notice and without faults that listens on addr, as "127.0.0.1:0".
// Close ends it.
func Listen(addr string) (*Server, error) {
	s := &Server{}
	s.Server = metadatatest.New(metadatatest.Service{
		Serve: s.serve, Page: page,
		False: "1999-12-31 23:59:59", Broken: func(*http.Request) string { return "2018-08-18 12:0" },
	})
	return s, s.Server.Listen(addr)
}

// Announce shows a time, by the service's clock, with a resolution of one second.
func (s *Server) Announce(at time.Time) {
	s.AnnounceText(at.In(time.FixedZone("UTC+8", 8*60*60)).Format("2006-01-02 15:04:05"))
}

// AnnounceText shows this very text instead of a time; "" is none.
func (s *Server) AnnounceText(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = text
}

// Withdraw answers 404 again.
func (s *Server) Withdraw() { s.AnnounceText("") }

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	body := map[string]string{timePath: s.at, idPath: InstanceID}[r.URL.Path]
	s.mu.Unlock()
	if body == "" || r.Method != http.MethodGet {
		page(w, http.StatusNotFound)
		return
	}
	metadatatest.Text(w, "text/plain", body)
}

func page(w http.ResponseWriter, status int) {
	http.Error(w, http.StatusText(status), status)
}
