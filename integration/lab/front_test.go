package lab

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestFront: each fault is what it says, and a front without one is not noticed.
func TestFront(t *testing.T) {
	var got []byte
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, _ = io.ReadAll(r.Body)
		io.WriteString(w, r.Host+strings.Repeat("x", 1000))
	}))
	defer upstream.Close()
	f, err := NewFront(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sent := bytes.Repeat([]byte("a"), 100_000)
	post := func() (int, string, error) {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, f.URL+"/x", bytes.NewReader(sent))
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, "", err
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		return answer.StatusCode, string(text), err
	}
	if status, text, err := post(); status != 200 || err != nil || !bytes.Equal(got, sent) || !strings.HasPrefix(text, f.URL[len("http://"):]) {
		t.Errorf("no fault: %d, %.50s, %v", status, text, err)
	}
	f.Always(Fault{Status: 503, Code: "SlowDown"})
	if status, text, err := post(); status != 503 || !strings.Contains(text, "<Code>SlowDown</Code>") || err != nil {
		t.Errorf("refused: %d, %.50s, %v", status, text, err)
	}
	for _, fault := range []Fault{{Reset: true}, {ResetAfter: 50_000}, {LoseAnswer: true}, {CutAnswer: 500}} {
		f.Always(fault)
		if _, _, err := post(); err == nil {
			t.Errorf("%+v: no error", fault)
		}
	}
	f.Always(Fault{Flip: true})
	if status, _, err := post(); status != 200 || err != nil || len(got) != len(sent) || bytes.Equal(got, sent) {
		t.Errorf("flip: %d, %v", status, err)
	}
	f.Script(nil)
	if status, _, err := post(); status != 200 || err != nil || f.Requests() != 1 {
		t.Errorf("healed: %d, %v after %d requests", status, err, f.Requests())
	}
}
