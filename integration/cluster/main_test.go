//go:build integration

package cluster

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"
)

// shared is the cluster of all tests. They run one after the other, and each leaves both nodes running and empty.
var shared *Cluster

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// abandoned is the variable that makes this program start a cluster and wait to be killed.
const abandoned = "LIFEBOAT_CLUSTER_ABANDONED"

func runTests(m *testing.M) (code int, err error) {
	if os.Getenv(abandoned) != "" {
		return 1, abandon()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute) // parts may have to be compiled
	defer cancel()
	if shared, err = Start(ctx, Options{Log: os.Stderr}); err != nil {
		return 1, err
	}
	defer func() {
		if failed := shared.Close(); failed != nil {
			code, err = 1, failed
		}
	}()
	return m.Run(), nil
}

// abandon starts a cluster, says where, and waits to be killed.
func abandon() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	c, err := Start(ctx, Options{Log: os.Stderr})
	if err != nil {
		return err
	}
	fmt.Println(c.Folder)
	<-ctx.Done()
	return c.Close()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
