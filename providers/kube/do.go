package kube

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Content types of a PATCH (Kubernetes API conventions, "Types (Kinds)", patches).
const (
	MergePatch     = "application/merge-patch+json"
	StrategicPatch = "application/strategic-merge-patch+json"
	JSONPatch      = "application/json-patch+json"
	ApplyPatch     = "application/apply-patch+yaml" // JSON is YAML
)

// MaxAnswer is the most that an answer may have, in bytes.
const MaxAnswer = maxList

// What errors of Do stand for; ask with errors.Is.
var (
	// ErrNotFound: there is no such object (404), or not this one any more: a precondition names another uid.
	ErrNotFound = errors.New("there is no such object")
	// ErrConflict: the object has changed since it was read, or is there already (409).
	ErrConflict = errors.New("the object has changed, or is there already")
	// ErrForbidden: a permission is missing (403), or the credentials are not known (401).
	ErrForbidden = errors.New("a permission is missing")
	// ErrTooMany: the API server asks for fewer requests, or a disruption budget forbids an eviction (429).
	ErrTooMany = errors.New("too many requests")
	// ErrAway: nobody has answered in time, or what answers can't serve (5xx). It may be tried again.
	ErrAway = errors.New("the API server is away")
)

// StatusError is an answer of the API server that refuses a request.
type StatusError struct {
	Code       int
	Reason     string        // a metav1.StatusReason, as AlreadyExists; "" when the answer names none
	Message    string        // at most a few hundred bytes
	RetryAfter time.Duration // 0 when the answer names none
	request    string
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("kubernetes: %s: %d", e.request, e.Code)
	if e.Reason != "" {
		text += " " + e.Reason
	}
	if e.Code == http.StatusForbidden {
		text += ": a permission is missing in the agent's ClusterRole"
	}
	return text + shorten(e.Message)
}

// Is says what the status stands for.
func (e *StatusError) Is(target error) bool {
	switch target {
	case ErrNotFound:
		return e.Code == http.StatusNotFound || e.Code == http.StatusGone
	case ErrConflict:
		return e.Code == http.StatusConflict
	case ErrForbidden:
		return e.Code == http.StatusForbidden || e.Code == http.StatusUnauthorized
	case ErrTooMany:
		return e.Code == http.StatusTooManyRequests
	case ErrAway:
		return e.Code >= http.StatusInternalServerError
	}
	return false
}

// Request is one request to the API server.
type Request struct {
	Method string // GET, POST, PATCH, PUT, DELETE
	Path   string // as /api/v1/nodes/NAME or /api/v1/namespaces/NS/pods/NAME/status
	Query  url.Values
	Patch  string // content type of a PATCH: one of the constants
	Accept string // what the answer should be; "" is application/json
	In     any    // encoded as JSON; nil: no body
	Out    any    // decoded from JSON of at most MaxAnswer; nil: thrown away
}

// Do makes one request. Without a deadline in ctx it has DefaultTimeout. An answer that refuses it is a *StatusError; what
// every error stands for errors.Is tells with the errors above. Nothing is tried again, but for credentials that have been rotated.
func (c *Cluster) Do(ctx context.Context, r Request) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultTimeout)
		defer cancel()
	}
	var body []byte
	if r.In != nil {
		var err error
		if body, err = json.Marshal(r.In); err != nil {
			return fmt.Errorf("kubernetes: %s %s: %w", r.Method, r.Path, err)
		}
	}
	err := c.once(ctx, r, body)
	if refused := (*StatusError)(nil); errors.As(err, &refused) && refused.Code == http.StatusUnauthorized {
		err = c.once(ctx, r, body)
	}
	return err
}

func (c *Cluster) once(ctx context.Context, r Request, body []byte) error {
	w := c.way()
	u := w.server.JoinPath(r.Path)
	u.RawQuery = r.Query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.Method, u.String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("kubernetes: %w", err)
	}
	req.Header.Set("Accept", cmp.Or(r.Accept, "application/json"))
	switch {
	case r.Patch != "":
		req.Header.Set("Content-Type", r.Patch)
	case r.In != nil:
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := w.http.Do(req)
	if err != nil {
		if isTLS(err) {
			c.renew(w)
		}
		return away(r, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized {
		c.renew(w)
	}
	if resp.StatusCode < 200 || resp.StatusCode >= 300 {
		return refusal(r, resp)
	}
	return r.read(resp.Body)
}

// read takes the answer. All of it is read, so that the connection can be used again.
func (r Request) read(body io.Reader) error {
	whole := &capped{Reader: body, left: MaxAnswer}
	if r.Out == nil {
		_, _ = io.Copy(io.Discard, whole)
		return nil // it was done, whatever else is said
	}
	doc, err := io.ReadAll(whole)
	switch {
	case errors.Is(err, errTooLong):
		return fmt.Errorf("kubernetes: %s %s: %w", r.Method, r.Path, err)
	case err != nil:
		return away(r, err)
	}
	if err := json.Unmarshal(doc, r.Out); err != nil {
		return fmt.Errorf("kubernetes: %s %s: the answer can't be read: %w", r.Method, r.Path, err)
	}
	return nil
}

func away(r Request, err error) error {
	return fmt.Errorf("kubernetes: %s %s: %w: %w", r.Method, r.Path, ErrAway, err)
}

// refusal is an answer that is no success.
func refusal(r Request, resp *http.Response) error {
	var status metav1.Status
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxError))
	_ = json.Unmarshal(body, &status) // a page of a proxy is none
	e := &StatusError{
		Code: resp.StatusCode, Reason: string(status.Reason), Message: status.Message, request: r.Method + " " + r.Path,
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		e.RetryAfter = min(time.Duration(s)*time.Second, time.Minute)
	}
	return e
}
