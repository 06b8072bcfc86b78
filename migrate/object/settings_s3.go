package object

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// centralEndpoint is Hadoop's default, which says nothing (o.a.h.fs.s3a.Constants.CENTRAL_ENDPOINT, Hadoop 3.3 and 3.4).
const centralEndpoint = "s3.amazonaws.com"

// s3Settings reads what hadoop-aws would (o.a.h.fs.s3a.Constants, Hadoop 3.3 and 3.4): fs.s3a.NAME, and before that
// fs.s3a.bucket.BUCKET.NAME.
func s3Settings(place bucket.Place, p properties, o Overrides) (Settings, error) {
	get := func(names ...string) string {
		for _, name := range names {
			for _, prefix := range []string{"fs.s3a.bucket." + place.Authority + ".", "fs.s3a."} {
				if v := p.hadoop(prefix + name); v != "" {
					return v
				}
			}
		}
		return ""
	}
	fail := func(name string, why string) (Settings, error) {
		return Settings{}, &bucket.Error{Op: "open", URL: place.String(), Kind: bucket.Misplaced,
			Err: fmt.Errorf("fs.s3a.%s of the application: %s", name, why)}
	}
	s := Settings{Endpoint: get("endpoint"), Region: get("endpoint.region")}
	pathStyle, err := boolean(get("path.style.access"), false)
	if err != nil {
		return fail("path.style.access", err.Error())
	}
	s.PathStyle = pathStyle
	tls, err := boolean(get("connection.ssl.enabled"), true)
	if err != nil {
		return fail("connection.ssl.enabled", err.Error())
	}
	if s.Endpoint == centralEndpoint {
		s.Endpoint = ""
	}
	if s.Endpoint != "" && !strings.Contains(s.Endpoint, "://") {
		s.Endpoint = map[bool]string{true: "https://", false: "http://"}[tls] + s.Endpoint
	}
	switch a := get("encryption.algorithm", "server-side-encryption-algorithm"); strings.ToUpper(a) {
	case "":
	case "AES256":
		s.Encryption.Algorithm = "AES256"
	case "SSE-KMS":
		s.Encryption = bucket.Encryption{Algorithm: "aws:kms", Key: get("encryption.key", "server-side-encryption.key")}
	case "DSSE-KMS":
		s.Encryption = bucket.Encryption{Algorithm: "aws:kms:dsse", Key: get("encryption.key", "server-side-encryption.key")}
	default:
		return fail("encryption.algorithm", fmt.Sprintf("%.20q can't be written by Lifeboat; set objects.path to another bucket", a))
	}
	if o.CredentialsFromApplication {
		s.Credentials = bucket.Credentials{ID: get("access.key"), Secret: get("secret.key"), Token: get("session.token")}
		if (s.Credentials.ID == "") != (s.Credentials.Secret == "") {
			return fail("access.key", "it and fs.s3a.secret.key must both be set, or neither")
		}
	}
	return s, nil
}

// boolean reads what Hadoop's Configuration.getBoolean would.
func boolean(s string, otherwise bool) (bool, error) {
	if s == "" {
		return otherwise, nil
	}
	b, err := strconv.ParseBool(strings.ToLower(s))
	if err != nil {
		return false, fmt.Errorf("%.20q is neither true nor false", s)
	}
	return b, nil
}
