package azuretest

import (
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/lifeboat/lifeboat/providers/metadata/metadatatest"
)

const contentType = "application/json; charset=utf-8"

func step(r *http.Request) metadatatest.Step {
	switch {
	case r.URL.Path != eventsPath:
		return Instance
	case r.Method == http.MethodPost:
		return Start
	default:
		return Look
	}
}

// serve answers as the metadata service does.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if s.tooMany() {
		page(w, http.StatusTooManyRequests)
		return
	}
	if r.Header.Get("Metadata") != "true" || r.Header.Get("X-Forwarded-For") != "" {
		refuse(w, http.StatusBadRequest, `{"error":"Bad request. Required metadata header not specified"}`)
		return
	}
	version := r.URL.Query()["api-version"]
	if len(version) != 1 || len(version[0]) != len(eventsVersion) {
		refuse(w, http.StatusBadRequest, `{"error":"Bad request. api-version is invalid or was not specified in the request. `+
			`For more information refer to aka.ms/azureimds","newest-versions":["2025-04-07","2024-07-17","2024-03-15"]}`)
		return
	}
	switch {
	case r.URL.Path != eventsPath:
		s.instance(w, r)
	case version[0] != eventsVersion:
		page(w, http.StatusBadRequest)
	case r.Method == http.MethodGet:
		s.look(w, r)
	case r.Method == http.MethodPost:
		s.start(w, r)
	default:
		page(w, http.StatusMethodNotAllowed)
	}
}

// tooMany keeps the limit of requests.
func (s *Server) tooMany() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.window) >= time.Second {
		s.window, s.used = now, 0
	}
	s.used++
	return s.limit > 0 && s.used > s.limit
}

// look shows the events, after the time that switching them on takes.
func (s *Server) look(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.enabled.IsZero() {
		s.enabled = time.Now().Add(s.first)
	}
	left := time.Until(s.enabled)
	s.mu.Unlock()
	if left > 0 && !metadatatest.Wait(r, left) {
		return
	}
	now := s.Now()
	s.mu.Lock()
	doc := s.document(now)
	s.counts.Looks++
	if len(s.events) > 0 || s.raw != "" {
		s.counts.Shown++
	}
	s.mu.Unlock()
	metadatatest.Text(w, contentType, doc)
}

// start starts the events of a StartRequests document.
func (s *Server) start(w http.ResponseWriter, r *http.Request) {
	var doc struct {
		StartRequests []struct {
			EventID string `json:"EventId"`
		}
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err != nil || json.Unmarshal(body, &doc) != nil || len(doc.StartRequests) == 0 {
		page(w, http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	ok := true
	for _, q := range doc.StartRequests {
		s.acknowledged = append(s.acknowledged, q.EventID)
		ok = s.begin(q.EventID) && ok
	}
	s.mu.Unlock()
	if !ok {
		page(w, http.StatusBadRequest)
		return
	}
	metadatatest.Text(w, contentType, "")
}

// instance answers single values of the instance metadata. They come only as text.
func (s *Server) instance(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		page(w, http.StatusMethodNotAllowed)
		return
	}
	s.mu.Lock()
	value := map[string]string{instancePath + "name": s.vm, instancePath + "azEnvironment": "AzurePublicCloud"}[r.URL.Path]
	s.mu.Unlock()
	switch {
	case value == "":
		page(w, http.StatusNotFound)
		return
	case r.URL.Query().Get("format") != "text":
		refuse(w, http.StatusBadRequest, `{"error":"Bad request. Format json not supported for leaf nodes"}`)
		return
	case r.URL.Path == instancePath+"name":
		s.mu.Lock()
		s.counts.Names++
		s.mu.Unlock()
	}
	metadatatest.Text(w, "text/plain; charset=utf-8", value)
}

// page shows a status as the service does.
func page(w http.ResponseWriter, status int) {
	refuse(w, status, `{"error":"`+http.StatusText(status)+`"}`)
}

func refuse(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}
