package cluster

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Request is one request of the audit log (audit.k8s.io/v1 Event).
type Request struct {
	User      string // as system:serviceaccount:NAMESPACE:NAME
	Permit           // what it takes
	URI       string
	At        time.Time // when it came
	Node      string    // whose pod the token was made for; "": none
	Code      int       // of the answer
	Forbidden bool      // no rule allows it; requests that admission refuses are allowed by one
}

// Permit is a verb on a kind of object, as rules of RBAC name it.
type Permit struct{ Group, Resource, Verb string }

func (p Permit) String() string {
	return strings.TrimPrefix(p.Group+"/"+p.Resource, "/") + " " + p.Verb
}

// event is a line of the log.
type event struct {
	User struct {
		Username string
		Extra    map[string][]string
	}
	Verb       string
	RequestURI string
	ObjectRef  *struct{ APIGroup, Resource, Subresource string }

	RequestReceivedTimestamp time.Time

	ResponseStatus struct{ Code int }
	Annotations    map[string]string
}

func (e event) request() Request {
	r := Request{
		User: e.User.Username, URI: e.RequestURI, At: e.RequestReceivedTimestamp, Code: e.ResponseStatus.Code,
		Node:      strings.Join(e.User.Extra["authentication.kubernetes.io/node-name"], " "),
		Forbidden: e.Annotations["authorization.k8s.io/decision"] == "forbid",
	}
	r.Verb = e.Verb
	if o := e.ObjectRef; o != nil {
		r.Group, r.Resource = o.APIGroup, o.Resource
		if o.Subresource != "" {
			r.Resource += "/" + o.Subresource
		}
	}
	return r
}

// EachRequest goes through the audit log from the cluster's beginning, also through the files that were put aside when they
// became large. A line that is still being written ends it.
func (c *Cluster) EachRequest(see func(Request)) error {
	old, err := filepath.Glob(strings.TrimSuffix(c.AuditLog(), ".log") + "-*.log")
	if err != nil {
		return err
	}
	slices.Sort(old) // their names hold the time
	for _, path := range append(old, c.AuditLog()) {
		if err := readLog(path, see); err != nil {
			return fmt.Errorf("audit log %s: %w", path, err)
		}
	}
	return nil
}

func readLog(path string, see func(Request)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for lines := bufio.NewReaderSize(f, 1<<20); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		see(e.request())
	}
}

// compare holds what is allowed against what was asked for: permits that nobody used, and requests that no rule allows.
func compare(allowed []Permit, asked map[Permit]int) (unused, missing []string) {
	for _, p := range allowed {
		if asked[p] == 0 {
			unused = append(unused, p.String())
		}
	}
	for p := range asked {
		if !slices.Contains(allowed, p) {
			missing = append(missing, p.String())
		}
	}
	slices.Sort(unused)
	slices.Sort(missing)
	return unused, missing
}
