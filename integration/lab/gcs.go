package lab

import (
	"context"
	"net/http"
	"strings"
)

// GCS starts fake-gcs-server, which keeps objects in memory, with one bucket. It wants no credentials.
func (s *Servers) GCS(ctx context.Context) (*Storage, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	v := &Storage{Endpoint: "http://127.0.0.1:" + port, Bucket: storageBucket}
	v.proc, err = s.start(ctx, server{
		tool: "fake-gcs-server", program: "fake-gcs-server",
		args: []string{"-scheme", "http", "-host", "127.0.0.1", "-port", port, "-backend", "memory", "-log-level", "error"},
		answers: func(ctx context.Context) bool {
			return call(ctx, http.MethodGet, v.Endpoint+"/_internal/healthcheck", nil, nil) == nil
		},
	})
	if err != nil {
		return nil, err
	}
	return v, call(ctx, http.MethodPost, v.Endpoint+"/storage/v1/b?project=p", strings.NewReader(`{"name":"`+v.Bucket+`"}`), nil)
}
