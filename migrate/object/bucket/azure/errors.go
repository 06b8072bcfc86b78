package azure

import (
	"crypto/tls"
	"encoding/xml"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

var (
	errFolder = errors.New("a folder has this name")
	errAnswer = errors.New("the answer lacks what Azure Storage says")
	errRange  = errors.New("the range is not within the object")
)

func (b *Bucket) fail(op, key string, err error) error {
	if err == nil {
		return nil
	}
	e := &bucket.Error{Op: op, URL: b.URL(), Key: key, Kind: kindOf(err), Err: err}
	var said *azcore.ResponseError
	if errors.As(err, &said) {
		e.Err = &apiError{said}
		if said.RawResponse != nil {
			e.RetryAfter = bucket.RetryAfter(said.RawResponse.Header)
		}
	}
	var known *bucket.Error
	if errors.As(err, &known) {
		return err
	}
	return e
}

// apiError is an answer that says no, in one line: the client's own text has ten, with the whole answer.
type apiError struct{ *azcore.ResponseError }

func (e *apiError) Unwrap() error { return e.ResponseError }

func (e *apiError) Error() string {
	s := fmt.Sprintf("HTTP %d %s", e.StatusCode, e.ErrorCode)
	if e.RawResponse == nil {
		return strings.TrimSpace(s)
	}
	content, err := runtime.Payload(e.RawResponse)
	var answer struct{ Message string }
	if err == nil && xml.Unmarshal(content, &answer) == nil && answer.Message != "" {
		s += ": " + firstLine(errors.New(answer.Message))
	}
	return strings.TrimSpace(s)
}

// firstLine is what of a long message is worth repeating.
func firstLine(err error) string {
	const most = 300
	line, _, _ := strings.Cut(err.Error(), "\n")
	return strings.ToValidUTF8(line[:min(len(line), most)], "")
}

// kindOfCode knows the codes whose status leaves open what went wrong.
func kindOfCode(code bloberror.Code) (bucket.Kind, bool) {
	switch code {
	case bloberror.BlobAlreadyExists, bloberror.ConditionNotMet, bloberror.TargetConditionNotMet:
		return bucket.Exists, true
	case bloberror.ContainerNotFound, bloberror.ContainerDisabled, bloberror.InvalidResourceName, bloberror.InvalidURI,
		bloberror.ResourceTypeMismatch, bloberror.InvalidHeaderValue, "PathConflict":
		return bucket.Misplaced, true
	case bloberror.BlobNotFound, bloberror.ResourceNotFound:
		return bucket.NotFound, true
	case bloberror.MD5Mismatch, bloberror.InvalidMD5, bloberror.CRC64Mismatch:
		return bucket.BadBody, true
	case bloberror.ServerBusy, bloberror.SnapshotOperationRateExceeded:
		return bucket.Throttled, true
	case bloberror.BlobImmutableDueToPolicy, bloberror.LeaseIDMissing, bloberror.InsufficientAccountPermissions,
		bloberror.AccountIsDisabled, bloberror.UnauthorizedBlobOverwrite:
		return bucket.Denied, true
	case "AccountQuotaExceeded", "FilesystemQuotaExceeded", bloberror.RequestBodyTooLarge:
		return bucket.Full, true
	}
	return 0, false
}

// kindOf follows Microsoft's page "Blob Storage error codes". What can't be known of a HEAD, which has no body, is
// in the header that the client reads as the code.
func kindOf(err error) bucket.Kind {
	var (
		said   *azcore.ResponseError
		body   *bucket.BodyError
		denied *deniedError
		name   *net.DNSError
		cert   *tls.CertificateVerificationError
	)
	switch {
	case err == nil:
		return bucket.Unavailable
	case errors.Is(err, errFolder):
		return bucket.NotFound
	case errors.As(err, &body):
		return bucket.BadBody
	case errors.As(err, &denied):
		return bucket.Denied
	case errors.As(err, &name) && name.IsNotFound, errors.As(err, &cert): // no such account, another server
		return bucket.Misplaced
	case !errors.As(err, &said):
		return bucket.Unavailable
	}
	if kind, ok := kindOfCode(bloberror.Code(said.ErrorCode)); ok {
		return kind
	}
	switch said.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return bucket.Denied
	case http.StatusNotFound:
		return bucket.NotFound
	case http.StatusPreconditionFailed:
		return bucket.Exists
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return bucket.Throttled // "ServerBusy": the account's limit
	case http.StatusRequestEntityTooLarge, http.StatusInsufficientStorage:
		return bucket.Full
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusMethodNotAllowed:
		return bucket.Misplaced
	}
	return bucket.Unavailable
}
