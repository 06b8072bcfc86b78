// Package alibabatest is a faithful fake of the metadata service of Alibaba Cloud's ECS, as far as the
// interruption of spot instances goes, for tests and demonstrations. It stands where the cloud stands,
// before the first step of a rescue. Its instance allows the security hardening mode only.
//
// What it copies is documented in the ECS user guide ("Instance metadata", "Detect and handle spot
// instance interruptions"): paths, forms, token rules and their status codes, and 404 for an instance
// that is not taken. The limit of requests is mentioned there, but not how high it is.
package alibabatest

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/lifeboat/lifeboat/providers/metadata/metadatatest"
)

const (
	tokenPath  = "/latest/api/token"
	timePath   = "/latest/meta-data/instance/spot/termination-time"
	regionPath = "/latest/meta-data/region-id"

	tokenHeader = "X-Aliyun-Ecs-Metadata-Token"
	ttlHeader   = "X-Aliyun-Ecs-Metadata-Token-Ttl-Seconds"

	// Region is where the fake's instance is.
	Region = "cn-hangzhou"
)

// The steps that a fault can be limited to.
const (
	Token    metadatatest.Step = "token"    // PUT /latest/api/token
	Metadata metadatatest.Step = "metadata" // everything else
)

// Server is the fake. All methods may be called at any time by many goroutines.
type Server struct {
	*metadatatest.Server
	metadatatest.Tokens

	mu sync.Mutex
	at string
}

// Listen returns a fake without a notice and without faults that listens on addr, as "127.0.0.1:0".
// Close ends it.
func Listen(addr string) (*Server, error) {
	s := &Server{}
	s.Server = metadatatest.New(metadatatest.Service{
		Serve: s.serve, Step: step, Page: page, Revoke: s.RevokeTokens,
		False: "1999-12-31T23:59:59Z",
		Broken: func(r *http.Request) string {
			if step(r) == Token {
				return "<html>\n<body>\nwait\n</body>\n</html>"
			}
			return "2020-04-07T17:0"
		},
	})
	return s, s.Server.Listen(addr)
}

// Announce shows a time, by the service's clock, with a resolution of one second.
func (s *Server) Announce(at time.Time) { s.AnnounceText(at.UTC().Format("2006-01-02T15:04:05Z")) }

// AnnounceText shows this very text instead of a time; "" is none.
func (s *Server) AnnounceText(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = text
}

// Withdraw answers 404 again.
func (s *Server) Withdraw() { s.AnnounceText("") }

func step(r *http.Request) metadatatest.Step {
	if r.URL.Path == tokenPath {
		return Token
	}
	return Metadata
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Forwarded-For") != "" {
		page(w, http.StatusForbidden)
		return
	}
	if r.URL.Path == tokenPath {
		token, ok := s.Give(r.Header.Get(ttlHeader))
		if !ok || r.Method != http.MethodPut {
			page(w, http.StatusBadRequest)
			return
		}
		metadatatest.Text(w, "text/plain", token)
		return
	}
	if _, ok := s.Check(r, tokenHeader); !ok {
		status := http.StatusUnauthorized
		if r.Header.Get(tokenHeader) == "" {
			status = http.StatusForbidden // the normal mode, which this instance does not allow
		}
		page(w, status)
		return
	}
	s.item(w, r)
}

// item answers with a single value of the metadata.
func (s *Server) item(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	body := map[string]string{timePath: s.at, regionPath: Region}[r.URL.Path]
	s.mu.Unlock()
	if body == "" || r.Method != http.MethodGet {
		page(w, http.StatusNotFound)
		return
	}
	metadatatest.Text(w, "text/plain", body)
}

func page(w http.ResponseWriter, status int) {
	http.Error(w, strconv.Itoa(status)+" - "+http.StatusText(status), status)
}
