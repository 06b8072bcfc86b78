package s3

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

const regionHeader = "X-Amz-Bucket-Region"

// classify finds the kind of an error, and what an operator should know beside its text.
func classify(err error) (kind bucket.Kind, why string) {
	var (
		known  *bucket.Error
		body   *bucket.BodyError
		creds  *credentialsError
		cert   *tls.CertificateVerificationError
		dns    *net.DNSError
		api    smithy.APIError
		answer *smithyhttp.ResponseError
	)
	switch {
	case errors.As(err, &known):
		return known.Kind, ""
	case errors.As(err, &body):
		return bucket.BadBody, ""
	case errors.As(err, &creds):
		return credentialsKind(creds)
	case errors.As(err, &cert):
		return bucket.Misplaced, "the endpoint's certificate is not trusted"
	case errors.As(err, &dns) && dns.IsNotFound:
		return bucket.Misplaced, "no such host: is the endpoint right, and does it need pathStyle?"
	}
	if errors.As(err, &api) {
		if kind, ok := codes(api.ErrorCode()); ok {
			return kind, advice(err, kind)
		}
	}
	if errors.As(err, &answer) {
		kind := statusKind(answer.HTTPStatusCode())
		return kind, advice(err, kind)
	}
	return bucket.Unavailable, ""
}

func credentialsKind(err *credentialsError) (bucket.Kind, string) {
	var n net.Error
	if errors.As(err.err, &n) && n.Timeout() {
		return bucket.Unavailable, ""
	}
	return bucket.Denied, "give the agent's pod a role, or set credentials in its environment"
}

// codes are the error codes that say more than their HTTP status (Amazon S3 API Reference, "Error responses"; those
// that begin with XMinio are MinIO's).
func codes(code string) (bucket.Kind, bool) {
	switch code {
	case "SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled",
		"RequestLimitExceeded", "TooManyRequests", "TooManyRequestsException", "BandwidthLimitExceeded", "KMS.ThrottlingException":
		return bucket.Throttled, true
	case "AccessDenied", "AllAccessDisabled", "AccountProblem", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken",
		"TokenRefreshRequired", "InvalidToken", "InvalidSecurity", "RequestTimeTooSkewed", "NotSignedUp", "CredentialsNotSupported",
		"KMS.DisabledException", "KMS.NotFoundException", "KMS.KMSInvalidStateException", "KMS.AccessDeniedException":
		return bucket.Denied, true
	case "NoSuchKey", "NotFound", "NoSuchVersion":
		return bucket.NotFound, true
	case "PreconditionFailed":
		return bucket.Exists, true
	case "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage", "EntityTooLarge":
		return bucket.Full, true
	case "NoSuchBucket", "PermanentRedirect", "TemporaryRedirect", "Redirect", "AuthorizationHeaderMalformed",
		"IllegalLocationConstraintException", "InvalidBucketName", "InvalidBucketState", "NotImplemented", "MethodNotAllowed", "KeyTooLongError":
		return bucket.Misplaced, true
	case "BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody", "InvalidRange":
		return bucket.BadBody, true
	case "NoSuchUpload", "InvalidPart", "RequestTimeout", "InternalError", "OperationAborted", conflict:
		return bucket.Unavailable, true
	}
	return bucket.Unavailable, false
}

// conflict is the code by which S3 says that another writer of the same key is at work (409): nobody has won yet.
const conflict = "ConditionalRequestConflict"

// statusKind is for answers without a code: those to HEAD, and of proxies.
func statusKind(status int) bucket.Kind {
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return bucket.Throttled
	case status == http.StatusNotFound:
		return bucket.NotFound
	case status == http.StatusPreconditionFailed:
		return bucket.Exists
	case status == http.StatusInsufficientStorage:
		return bucket.Full
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusBadRequest, // HEAD with bad credentials
		status == http.StatusProxyAuthRequired:
		return bucket.Denied
	case status == http.StatusRequestedRangeNotSatisfiable:
		return bucket.BadBody
	case status/100 == 3, status == http.StatusMethodNotAllowed, status == http.StatusNotImplemented:
		return bucket.Misplaced
	default:
		return bucket.Unavailable
	}
}

func advice(err error, kind bucket.Kind) string {
	region := headerOf(err, regionHeader)
	switch {
	case kind == bucket.Misplaced && region != "":
		return "the bucket is in the region " + strconv.Quote(region) + ": set it"
	case codeOf(err) == "RequestTimeTooSkewed":
		return "the clock of this node is wrong"
	default:
		return ""
	}
}

func codeOf(err error) string {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return ""
	}
	return api.ErrorCode()
}

// spoiled says that what arrived was not what was sent.
func spoiled(err error) bool {
	switch codeOf(err) {
	case "BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody":
		return true
	}
	return false
}

// stale says that credentials were refused that new ones might replace.
func stale(err error) bool {
	switch codeOf(err) {
	case "ExpiredToken", "TokenRefreshRequired", "InvalidToken", "InvalidAccessKeyId":
		return true
	}
	return false
}

// headerOf is a header of the answer that an error stands for, cut to what one may hold.
func headerOf(err error, name string) string {
	var answer *smithyhttp.ResponseError
	if !errors.As(err, &answer) || answer.Response == nil || answer.Response.Response == nil {
		return ""
	}
	v := strings.TrimSpace(answer.Response.Header.Get(name))
	return v[:min(len(v), 64)]
}

// retryAfter is what the server asked for.
func retryAfter(err error) time.Duration {
	var answer *smithyhttp.ResponseError
	if !errors.As(err, &answer) || answer.Response == nil || answer.Response.Response == nil {
		return 0
	}
	return bucket.RetryAfter(answer.Response.Header)
}
