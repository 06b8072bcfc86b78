package gcs

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// apiError is an answer that says no.
type apiError struct {
	status     int
	reason     string // the machine-readable one of the first error
	message    string
	retryAfter time.Duration
}

// maxMessage caps what of an answer is repeated, in bytes.
const maxMessage = 500

func newAPIError(resp *http.Response) *apiError {
	e := &apiError{status: resp.StatusCode, retryAfter: bucket.RetryAfter(resp.Header)}
	const most = 64 << 10
	content, _ := io.ReadAll(io.LimitReader(resp.Body, most))
	var answer struct {
		Error struct {
			Message string `json:"message"`
			Errors  []struct {
				Reason string `json:"reason"`
			} `json:"errors"`
		} `json:"error"`
	}
	if json.Unmarshal(content, &answer) == nil && answer.Error.Message != "" {
		e.message = answer.Error.Message
		if len(answer.Error.Errors) > 0 {
			e.reason = answer.Error.Errors[0].Reason
		}
	} else {
		e.message = strings.TrimSpace(string(content)) // some errors are plain text
	}
	e.message = strings.ToValidUTF8(e.message[:min(len(e.message), maxMessage)], "")
	return e
}

func (e *apiError) Error() string {
	s := fmt.Sprintf("HTTP %d", e.status)
	if e.reason != "" {
		s += " " + e.reason
	}
	if e.message != "" {
		s += ": " + e.message
	}
	return s
}

// says looks into the message for what the status and the reason leave open.
func (e *apiError) says(words ...string) bool {
	m := strings.ToLower(e.message)
	for _, w := range words {
		if strings.Contains(m, w) {
			return true
		}
	}
	return false
}

// kind follows Google's page "HTTP status and error codes for JSON".
func (e *apiError) kind() bucket.Kind {
	switch e.status {
	case http.StatusBadRequest:
		if e.says("crc32c", "md5", "checksum") {
			return bucket.BadBody
		}
		return bucket.Misplaced
	case http.StatusUnauthorized:
		return bucket.Denied
	case http.StatusForbidden:
		switch e.reason {
		case "rateLimitExceeded", "userRateLimitExceeded":
			return bucket.Throttled
		case "quotaExceeded":
			return bucket.Full
		}
		return bucket.Denied
	case http.StatusNotFound:
		if e.says("bucket does not exist", "bucket not found") {
			return bucket.Misplaced
		}
		return bucket.NotFound
	case http.StatusPreconditionFailed:
		return bucket.Exists // the only precondition is that there is none
	case http.StatusRequestEntityTooLarge, http.StatusInsufficientStorage:
		return bucket.Full
	case http.StatusTooManyRequests:
		return bucket.Throttled
	case http.StatusServiceUnavailable: // also with "SlowDown" from gateways
		if e.retryAfter > 0 || e.says("slow down", "slowdown", "rate") {
			return bucket.Throttled
		}
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusMethodNotAllowed:
		return bucket.Misplaced
	}
	return bucket.Unavailable
}

// kindOf says what went wrong when there was no answer, or what it said.
func kindOf(err error) bucket.Kind {
	var (
		api     *apiError
		body    *bucket.BodyError
		name    *net.DNSError
		cert    *tls.CertificateVerificationError
		refused *oauth2.RetrieveError
	)
	switch {
	case err == nil:
	case errors.As(err, &api):
		return api.kind()
	case errors.As(err, &body):
		return bucket.BadBody
	case errors.As(err, &refused):
		if s := refused.Response; s == nil || s.StatusCode/100 == 4 {
			return bucket.Denied
		}
	case errors.Is(err, errCredentials):
		return bucket.Denied
	case errors.As(err, &name) && name.IsNotFound, errors.As(err, &cert):
		return bucket.Misplaced
	}
	return bucket.Unavailable
}
