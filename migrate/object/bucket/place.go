package bucket

import (
	"errors"
	"fmt"
	"strings"
)

// Place is a bucket's URL taken apart, as Hadoop's Path does it: nothing in it is percent-encoded.
type Place struct {
	Scheme    string // lower case, as "s3a"
	Authority string // the bucket's name, or container@account; "" for folders
	Prefix    string // without slash at its beginning and end; "" for the whole bucket
}

// maxURL caps what is taken for a URL in bytes; keys of all storages are shorter.
const maxURL = 2048

// Parse reads a URL as s3a://bucket/prefix or file:/folder. Errors are of the kind Misplaced, and do not repeat
// what may hold a password.
func Parse(url string) (Place, error) {
	refuse := func(why string) (Place, error) {
		return Place{}, &Error{Op: "open", URL: redacted(url), Kind: Misplaced, Err: errors.New(why)}
	}
	if len(url) > maxURL {
		return refuse("the URL is too long")
	}
	scheme, rest, ok := strings.Cut(url, ":")
	if !ok || scheme == "" || strings.Contains(scheme, "/") || !strings.HasPrefix(rest, "/") {
		return refuse("it needs a scheme, as in s3a://bucket/prefix")
	}
	p := Place{Scheme: strings.ToLower(scheme)}
	if after, ok := strings.CutPrefix(rest, "//"); ok {
		p.Authority, rest, _ = strings.Cut(after, "/")
	}
	p.Prefix = strings.Trim(rest, "/")
	switch {
	case strings.ContainsAny(url, "?#"):
		return refuse("it must have neither a query nor a fragment")
	case strings.Contains(p.Authority, ":"):
		return refuse("it must hold neither a port nor a password: the endpoint and credentials are settings of their own")
	}
	if p.Prefix != "" {
		if err := CheckKey(p.Prefix); err != nil {
			return refuse(err.Error())
		}
	}
	return p, nil
}

// String is the one way to write a place.
func (p Place) String() string {
	if p.Prefix == "" && p.Authority != "" {
		return p.Scheme + "://" + p.Authority
	}
	return p.Scheme + "://" + p.Authority + "/" + p.Prefix
}

// Key is a key of this place in the storage's own terms, below the prefix. A key that fails CheckKey is an error
// of the kind Misplaced.
func (p Place) Key(key string) (string, error) {
	if err := CheckKey(key); err != nil {
		return "", &Error{Op: "name", URL: p.String(), Kind: Misplaced, Err: err}
	}
	return p.Under(key), nil
}

// Under puts the prefix before the beginning of a key, for listings.
func (p Place) Under(prefix string) string {
	if p.Prefix == "" {
		return prefix
	}
	return p.Prefix + "/" + prefix
}

// Relative is the reverse of Under; ok is false for what does not lie below the prefix.
func (p Place) Relative(key string) (relative string, ok bool) {
	if p.Prefix == "" {
		return key, true
	}
	return strings.CutPrefix(key, p.Prefix+"/")
}

// maxKey is the longest key that every storage takes, in bytes (S3, GCS and Azure: 1024).
const maxKey = 1024

// CheckKey wants a key that means the same in every storage and never leads out of a folder: parts that are
// neither empty nor "." nor "..", separated by "/", without control characters and backslashes.
func CheckKey(key string) error {
	if key == "" || len(key) > maxKey {
		return fmt.Errorf("a key of %d bytes, want 1 to %d", len(key), maxKey)
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("%.200q has an empty part, or one of dots", key)
		}
	}
	for _, r := range key {
		if r < ' ' || r == 0x7F || r == '\\' || r == '\uFFFD' {
			return fmt.Errorf("%.200q has a character that not every storage takes", key)
		}
	}
	return nil
}

// redacted is what of a malformed URL may be repeated.
func redacted(url string) string {
	scheme, _, ok := strings.Cut(url, ":")
	if !ok || len(scheme) > 16 {
		return "a URL"
	}
	return scheme + "://…"
}

// Fail makes an Error of this place; nil stays nil. One that is an *Error already stays as it is.
func (p Place) Fail(op, key string, kind Kind, err error) error {
	var known *Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	return &Error{Op: op, URL: p.String(), Key: key, Kind: kind, Err: err}
}
