package bucket

import "time"

// Settings say how a storage is reached. The zero value is the provider's own endpoint with the credentials of
// the place where the agent runs.
type Settings struct {
	// Endpoint is a URL as http://127.0.0.1:9000; "" is the provider's own.
	Endpoint string
	Region   string // "" is found out where that is possible
	// PathStyle puts the bucket's name into the path instead of the host name (S3).
	PathStyle bool
	// Credentials; without any the provider's default chain finds them: environment, workload identity,
	// instance role.
	Credentials Credentials
	// Encryption that the server applies, as readers expect it; the zero value is the bucket's default.
	Encryption Encryption

	// PartSize is how large the parts of large objects are in bytes. Default 8 MiB.
	PartSize int64
	// Parallel is how many parts of one object are sent at the same time. Default 2.
	Parallel int
	// Stall is how long nothing may move within one request. Default 15 s.
	Stall time.Duration
	// Timeout is how long one request may take, whatever moves, without the time that reading its body takes; of a Get
	// until its answer begins. Default 2 min.
	Timeout time.Duration
}

// Defaults fills in what is zero or senseless. What is larger than this can't be kept within the agent's memory.
func (s Settings) Defaults() Settings {
	const mib = 1 << 20
	if s.PartSize < 5*mib || s.PartSize > 64*mib { // S3 refuses smaller parts
		s.PartSize = 8 * mib
	}
	if s.Parallel <= 0 || s.Parallel > 16 {
		s.Parallel = 2
	}
	if s.Stall <= 0 {
		s.Stall = 15 * time.Second
	}
	if s.Timeout <= 0 {
		s.Timeout = 2 * time.Minute
	}
	return s
}

// Credentials that are given instead of found. What they mean depends on the provider.
type Credentials struct {
	ID     string // S3: access key; Azure: client id; GCS: client e-mail
	Secret string // S3: secret key; Azure: account key or client secret; GCS: private key
	Token  string // S3: session token; Azure: shared access signature
	Tenant string // Azure: with a client id
}

// String never shows a secret.
func (c Credentials) String() string {
	if c == (Credentials{}) {
		return "default chain"
	}
	return "given"
}

// GoString never shows a secret.
func (c Credentials) GoString() string { return c.String() }

// MarshalText never shows a secret.
func (c Credentials) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Encryption is what a server is asked to do with an object.
type Encryption struct {
	Algorithm string // as the provider calls it: AES256, aws:kms, aws:kms:dsse
	Key       string // the key's name; "" for the provider's default
}
