package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/lifeboat/lifeboat/providers"
)

const (
	maxLead      = 7 * 24 * time.Hour
	maxExecutors = 1024
	maxWord      = 128 // bytes in an id
)

// request is what the file says. All fields are optional; those that are not known are refused,
// because a misspelt "deadline" must not end in the default.
type request struct {
	Deadline  *time.Time     `json:"deadline"`  // RFC 3339
	In        string         `json:"in"`        // as "90s"; from when the file was written
	Kind      providers.Kind `json:"kind"`      // drain when absent
	App       string         `json:"app"`       // absent: any application
	Executors []string       `json:"executors"` // absent: the whole node, or all executors of app
	Drill     bool           `json:"drill"`
	DryRun    bool           `json:"dryRun"` // with drill only
	ID        string         `json:"id"`     // names the event across rewritings of the file

	in time.Duration
}

// decode reads the content of a file. Nothing but blanks is a request without any field.
func decode(content string) (request, error) {
	r := request{Kind: providers.Drain}
	if blank(content) {
		return r, nil
	}
	d := json.NewDecoder(bytes.NewReader([]byte(content)))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return request{}, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return request{}, errors.New("more than one JSON value")
	}
	if first := bytes.TrimSpace([]byte(content))[0]; first != '{' {
		return request{}, errors.New("no JSON object")
	}
	return r, r.check()
}

// check finds values that make no sense, and fills in what follows from others.
func (r *request) check() error {
	if !slices.Contains(providers.Kinds(), r.Kind) {
		return fmt.Errorf("kind %.40q is not known", string(r.Kind))
	}
	if r.Deadline != nil && r.In != "" {
		return errors.New("both deadline and in are given")
	}
	if r.In != "" {
		d, err := time.ParseDuration(r.In)
		if err != nil || d <= 0 || d > maxLead {
			return fmt.Errorf("in: %.40q is no time span from 0 to %v", r.In, maxLead)
		}
		r.in = d
	}
	if r.ID != "" && !word(r.ID) {
		return errors.New("id: only letters, digits and . _ : - are allowed, 128 at most")
	}
	if r.DryRun && !r.Drill {
		return errors.New("dryRun: only a drill can be dry")
	}
	if r.App != "" && !word(r.App) {
		return fmt.Errorf("app: %.40q is no application id", r.App)
	}
	if len(r.Executors) > maxExecutors {
		return fmt.Errorf("more than %d executors", maxExecutors)
	}
	if r.Executors != nil && len(r.Executors) == 0 {
		return errors.New("executors: leave it out to mean the whole node")
	}
	for _, e := range r.Executors {
		if !word(e) {
			return fmt.Errorf("%.40q is no executor id", e)
		}
	}
	return nil
}

// blank reports whether there is nothing in the file, as touch and echo leave it.
func blank(s string) bool { return len(bytes.TrimSpace([]byte(s))) == 0 }

// word accepts what is safe in ids, logs and labels.
func word(s string) bool {
	if s == "" || len(s) > maxWord {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' && c != ':' {
			return false
		}
	}
	return true
}
