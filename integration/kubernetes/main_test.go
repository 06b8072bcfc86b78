//go:build integration

// Package kubernetes tests what talks to Kubernetes against a real API server. Nothing here needs a kubelet: what it would
// write is written by the tests.
package kubernetes

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/lifeboat/lifeboat/integration/kubelab"
)

// shared is the API server of all tests that don't harm it.
var shared *kubelab.Cluster

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute) // it may have to be compiled
	defer cancel()
	begin := time.Now()
	shared, err = start(ctx)
	if err != nil {
		return 1, err
	}
	defer shared.Close()
	fmt.Printf("a real API server is ready after %v\n", time.Since(begin).Round(time.Millisecond))
	return m.Run(), nil
}

// start starts a control plane with a namespace for executors.
func start(ctx context.Context) (*kubelab.Cluster, error) {
	c, err := kubelab.Start(ctx, kubelab.Options{Log: os.Stderr})
	if err != nil {
		return nil, err
	}
	if err := c.Do(ctx, http.MethodPost, "/api/v1/namespaces", object{"metadata": object{"name": namespace}}, nil); err != nil {
		return nil, err
	}
	return c, nil
}

const namespace = "spark"

// object is a document of the API.
type object map[string]any

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
