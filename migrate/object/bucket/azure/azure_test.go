package azure

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/migrate/object/bucket"
)

// secret is an account key.
func secret() string { return base64.StdEncoding.EncodeToString([]byte("nobody knows this one")) }

func place(t *testing.T, url string) bucket.Place {
	t.Helper()
	p, err := bucket.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// open opens a container at a server, with small parts.
func open(t *testing.T, h http.HandlerFunc) *Bucket {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	b, err := Open(t.Context(), Options{
		Place: place(t, "abfss://c@account.dfs.core.windows.net/p"),
		Settings: bucket.Settings{
			Endpoint: s.URL + "/account", Credentials: bucket.Credentials{Secret: secret()}, Stall: 2 * time.Second,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.settings.PartSize = 1 << 20
	t.Cleanup(func() { b.Close() })
	return b
}

func wantKind(t *testing.T, what string, err error, want bucket.Kind) {
	t.Helper()
	var e *bucket.Error
	if !errors.As(err, &e) || e.Kind != want {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func TestKinds(t *testing.T) {
	for _, test := range []struct {
		status int
		code   string
		want   bucket.Kind
	}{
		{400, "Md5Mismatch", bucket.BadBody},
		{400, "InvalidResourceName", bucket.Misplaced},
		{401, "NoAuthenticationInformation", bucket.Denied},
		{403, "AuthorizationFailure", bucket.Denied},
		{403, "AuthenticationFailed", bucket.Denied},
		{403, "InsufficientAccountPermissions", bucket.Denied},
		{404, "ContainerNotFound", bucket.Misplaced},
		{409, "BlobAlreadyExists", bucket.Exists},
		{409, "BlobImmutableDueToPolicy", bucket.Denied},
		{409, "ContainerBeingDeleted", bucket.Unavailable},
		{412, "ConditionNotMet", bucket.Exists},
		{412, "LeaseIdMissing", bucket.Denied},
		{413, "RequestBodyTooLarge", bucket.Full},
		{429, "", bucket.Throttled},
		{500, "InternalError", bucket.Unavailable},
		{500, "OperationTimedOut", bucket.Unavailable},
		{503, "ServerBusy", bucket.Throttled},
		{307, "", bucket.Misplaced},
		{502, "", bucket.Unavailable},
	} {
		b := open(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("X-Ms-Error-Code", test.code)
			w.Header().Set("Location", "http://elsewhere.invalid/")
			w.Header().Set("Retry-After", "4")
			w.WriteHeader(test.status)
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>It is so.\nRequestId: 1\nTime: 2</Message></Error>", test.code)
		})
		what := fmt.Sprint(test.status, " ", test.code)
		_, errStat := b.Stat(t.Context(), "k")
		_, errGet := b.Get(t.Context(), "k", 0, -1)
		for op, err := range map[string]error{
			"stat": errStat, "get": errGet, "delete": b.Delete(t.Context(), "k"),
			"list":      b.List(t.Context(), "", func(bucket.Object) error { return nil }),
			"put":       b.Put(t.Context(), "k", bytes.NewReader(make([]byte, 10)), bucket.PutOptions{}),
			"large put": b.Put(t.Context(), "k", bytes.NewReader(make([]byte, 3<<20)), bucket.PutOptions{}),
		} {
			wantKind(t, what+": "+op, err, test.want)
			var e *bucket.Error
			if errors.As(err, &e) && (e.RetryAfter != 4*time.Second || strings.Contains(err.Error(), "\n")) {
				t.Errorf("%s: %s: %q, retry after %v", what, op, err, e.RetryAfter)
			}
			if op != "stat" && !strings.Contains(err.Error(), "It is so.") {
				t.Errorf("%s: %s: %v does not say what the service says", what, op, err)
			}
		}
	}
}

// blobs takes blocks.
type blobs struct {
	mu        sync.Mutex
	fail      int // so many of the next blocks
	taken     bool
	blocks    map[string][]byte
	committed []string
	condition string
}

func (s *blobs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	content, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.Method == http.MethodHead:
		w.Header().Set("Content-Length", "5")
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
	case r.URL.Query().Get("comp") == "block" && s.fail > 0:
		s.fail--
		w.WriteHeader(http.StatusInternalServerError)
	case r.URL.Query().Get("comp") == "block":
		if r.Header.Get("Content-Md5") == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.blocks[r.URL.Query().Get("blockid")] = content
		w.WriteHeader(http.StatusCreated)
	case s.taken:
		w.Header().Set("X-Ms-Error-Code", "InvalidBlockList")
		w.WriteHeader(http.StatusBadRequest)
	default:
		s.condition = r.Header.Get("If-None-Match")
		for _, line := range strings.Split(string(content), "<Latest>")[1:] {
			id, _, _ := strings.Cut(line, "<")
			s.committed = append(s.committed, id)
		}
		w.WriteHeader(http.StatusCreated)
	}
}

// TestBlocks: the condition is kept when several blocks are committed, blocks are sent again, and are in order.
func TestBlocks(t *testing.T) {
	content := make([]byte, 5<<20+17)
	for i := range content {
		content[i] = byte(i >> 12)
	}
	for _, o := range []bucket.PutOptions{{}, {IfAbsent: true}} {
		s := &blobs{blocks: map[string][]byte{}, fail: 2}
		if err := open(t, s.ServeHTTP).Put(t.Context(), "k", bytes.NewReader(content), o); err != nil {
			t.Fatal(err)
		}
		var got []byte
		for _, id := range s.committed {
			got = append(got, s.blocks[id]...)
		}
		if !bytes.Equal(got, content) || (s.condition == "*") != o.IfAbsent {
			t.Errorf("%+v: %d bytes in %d blocks with the condition %q", o, len(got), len(s.committed), s.condition)
		}
	}
}

// TestBlocksTaken: another writer's commit removes blocks that wait.
func TestBlocksTaken(t *testing.T) {
	b := open(t, (&blobs{blocks: map[string][]byte{}, taken: true}).ServeHTTP)
	body := bytes.NewReader(make([]byte, 2<<20))
	wantKind(t, "only new", b.Put(t.Context(), "k", body, bucket.PutOptions{IfAbsent: true}), bucket.Exists)
	wantKind(t, "replace", b.Put(t.Context(), "k", body, bucket.PutOptions{}), bucket.Unavailable)
}

// TestBlocksInVain: a block that fails again and again ends the put.
func TestBlocksInVain(t *testing.T) {
	s := &blobs{blocks: map[string][]byte{}, fail: 100}
	err := open(t, s.ServeHTTP).Put(t.Context(), "k", bytes.NewReader(make([]byte, 2<<20)), bucket.PutOptions{})
	wantKind(t, "put", err, bucket.Unavailable)
	s.mu.Lock() // a request that was broken off may still be there
	defer s.mu.Unlock()
	if s.fail < 100-2*blockTries || len(s.committed) > 0 {
		t.Errorf("%d tries, %d blocks committed", 100-s.fail, len(s.committed))
	}
}

// TestFolders: what stands for a folder is no object.
func TestFolders(t *testing.T) {
	const item = `<Blob><Name>p/%s</Name><Properties><Content-Length>%d</Content-Length>` +
		`<Last-Modified>Fri, 02 Jan 2026 03:04:05 GMT</Last-Modified></Properties><Metadata>%s</Metadata></Blob>`
	const mark = "<hdi_isfolder>true</hdi_isfolder>"
	b := open(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("comp") != "list" {
			w.Header().Set("X-Ms-Meta-Hdi_isfolder", "true")
			w.Header().Set("Last-Modified", "Fri, 02 Jan 2026 03:04:05 GMT")
			return
		}
		w.Header().Set("Content-Type", "application/xml")
		fmt.Fprint(w, `<?xml version="1.0"?><EnumerationResults><Blobs>`, fmt.Sprintf(item, "a", 0, mark), fmt.Sprintf(item, "a/b", 7, ""),
			fmt.Sprintf(item, "c/", 0, ""), `</Blobs><NextMarker/></EnumerationResults>`)
	})
	var keys []string
	err := b.List(t.Context(), "", func(o bucket.Object) error {
		keys = append(keys, fmt.Sprint(o.Key, " ", o.Size))
		return nil
	})
	if err != nil || fmt.Sprint(keys) != "[a/b 7]" {
		t.Errorf("%q, %v", keys, err)
	}
	_, err = b.Stat(t.Context(), "a")
	wantKind(t, "stat", err, bucket.NotFound)
	_, err = b.Get(t.Context(), "a", 0, -1)
	wantKind(t, "get", err, bucket.NotFound)
}

func TestOpen(t *testing.T) {
	const url = "wasbs://c@account.blob.core.windows.net/p"
	for _, test := range []struct {
		name, url string
		settings  bucket.Settings
		want      string // the container's address
		kind      bucket.Kind
	}{
		{name: "blob", url: url, want: "https://account.blob.core.windows.net/c"},
		{name: "dfs", url: "abfs://c@account.dfs.core.chinacloudapi.cn", want: "https://account.blob.core.chinacloudapi.cn/c"},
		{name: "endpoint", url: url, settings: bucket.Settings{Endpoint: "https://private.example.com/"}, want: "https://private.example.com/c"},
		{name: "client secret", url: url, settings: bucket.Settings{Credentials: bucket.Credentials{ID: "i", Secret: "s", Tenant: "t"}},
			want: "https://account.blob.core.windows.net/c"},
		{name: "no container", url: "abfss://account.dfs.core.windows.net/p", kind: bucket.Misplaced},
		{name: "no account", url: "abfss://c@/p", kind: bucket.Misplaced},
		{name: "endpoint with a signature", url: url, settings: bucket.Settings{Endpoint: "https://host/?sig=hidden"}, kind: bucket.Misplaced},
		{name: "no TLS", url: url, settings: bucket.Settings{Endpoint: "http://host"}, kind: bucket.Denied},
		{name: "signature without TLS", url: url, kind: bucket.Denied,
			settings: bucket.Settings{Endpoint: "http://host", Credentials: bucket.Credentials{Token: "sig=hidden"}}},
		{name: "bad key", url: url, settings: bucket.Settings{Credentials: bucket.Credentials{Secret: "hidden!"}}, kind: bucket.Denied},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, err := Open(t.Context(), Options{Place: place(t, test.url), Settings: test.settings})
			if test.want == "" {
				wantKind(t, "open", err, test.kind)
				if strings.Contains(err.Error(), "hidden") {
					t.Error(err)
				}
				return
			}
			if err != nil || b.container.URL() != test.want || b.URL() != test.url {
				t.Errorf("%v, %v", b, err)
			}
		})
	}
}

// TestSignature: a shared access signature is sent, and is in no error.
func TestSignature(t *testing.T) {
	var query string
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.RawQuery
		w.WriteHeader(http.StatusForbidden)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshake that fails
	s.StartTLS()
	defer s.Close()
	b, err := Open(t.Context(), Options{Place: place(t, "abfss://c@account.dfs.core.windows.net"), Settings: bucket.Settings{
		Endpoint: s.URL, Credentials: bucket.Credentials{Token: "?sv=1&sig=hidden"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	_, err = b.Stat(t.Context(), "k")
	wantKind(t, "the server is not trusted", err, bucket.Misplaced)
	if strings.Contains(err.Error(), "hidden") {
		t.Error(err)
	}
	b.transport.TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig
	b.transport.CloseIdleConnections()
	_, err = b.Stat(t.Context(), "k")
	wantKind(t, "refused", err, bucket.Denied)
	if strings.Contains(err.Error(), "hidden") || !strings.Contains(query, "sig=hidden") {
		t.Errorf("%v; sent %q", err, query)
	}
}
