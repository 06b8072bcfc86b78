package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/lifeboat/lifeboat/agent/config"
	"github.com/lifeboat/lifeboat/migrate/migratetest"
	"github.com/lifeboat/lifeboat/migrate/object"
)

const fallbackKey = "spark.storage.decommission.fallbackStorage.path"

func TestPlaceOfObjects(t *testing.T) {
	off := func(c *config.Config) { c.Destinations = []string{config.DestinationPeers} }
	ours := func(c *config.Config) { c.Objects.Path = "s3a://ours/lifeboat" }
	override := func(c *config.Config) { ours(c); c.Objects.Override = true }
	same := func(c *config.Config) { c.Objects.Path, c.Objects.Override = "s3://theirs/copies", true }
	props := map[string]string{
		fallbackKey:                              "s3a://theirs/copies/",
		"spark.hadoop.fs.s3a.endpoint":           "http://minio:9000",
		"spark.hadoop.fs.s3a.path.style.access":  "true",
		"spark.hadoop.fs.s3a.access.key":         "AKIAxxxxxxxx",
		"spark.hadoop.fs.s3a.secret.key":         "verysecret",
		"spark.hadoop.fs.s3a.bucket.ours.region": "eu-north-1",
	}
	tests := []struct {
		name   string
		change func(*config.Config)
		props  map[string]string
		url    string
		read   bool
		err    string
	}{
		{"nothing is set", nil, nil, "", false, "neither"},
		{"the application's own", nil, props, "s3a://theirs/copies/", true, ""},
		{"switched off", off, props, "", false, "switched off"},
		{"ours, for one that names none", ours, nil, "s3a://ours/lifeboat", false, ""},
		{"its own before ours", ours, props, "s3a://theirs/copies/", true, ""},
		{"ours in its place", override, props, "s3a://ours/lifeboat", false, ""},
		{"ours is its own by another name", same, props, "s3://theirs/copies", true, ""},
		{"ours, where its own can't be used", ours, map[string]string{fallbackKey: "hdfs://name/copies/"}, "s3a://ours/lifeboat", false, ""},
		{"unknown storage", nil, map[string]string{fallbackKey: "hdfs://name/copies/"}, "", false, "hdfs"},
		{"no URL", nil, map[string]string{fallbackKey: "/mnt/copies/"}, "", false, "scheme"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := config.Default()
			if tt.change != nil {
				tt.change(&cfg)
			}
			got, err := placeObjects(cfg, tt.props)
			if tt.err != "" {
				if !errors.Is(err, errNoObjects) || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil || got.url != tt.url || got.read != tt.read {
				t.Errorf("got %q, read %v, %v; want %q, %v", got.url, got.read, err, tt.url, tt.read)
			}
		})
	}
}

func TestSettingsOfObjects(t *testing.T) {
	props := map[string]string{
		fallbackKey: "s3a://b/p/", "spark.hadoop.fs.s3a.endpoint": "http://minio:9000", "spark.hadoop.fs.s3a.path.style.access": "true",
		"spark.hadoop.fs.s3a.access.key": "AKIAxxxxxxxx", "spark.hadoop.fs.s3a.secret.key": "verysecret",
	}
	cfg := config.Default()
	got, err := placeObjects(cfg, props)
	must(t, err)
	s := got.settings
	if s.Endpoint != "http://minio:9000" || !s.PathStyle || s.Credentials.ID != "" || s.Credentials.Secret != "" ||
		s.PartSize != 8<<20 || s.Stall != cfg.Objects.Stall {
		t.Errorf("%+v", s)
	}
	cfg.Objects.Endpoint, cfg.Objects.PathStyle, cfg.Objects.Credentials = "https://other", "false", true
	got, err = placeObjects(cfg, props)
	must(t, err)
	if s := got.settings; s.Endpoint != "https://other" || s.PathStyle || s.Credentials.Secret != "verysecret" {
		t.Errorf("%+v", s)
	}
	if _, err := openObjects(t.Context(), cfg, nil, zap.NewNop()); !errors.Is(err, errNoObjects) {
		t.Errorf("opened without a place: %v", err)
	}
}

func TestStoreInAFolder(t *testing.T) {
	dir := t.TempDir()
	s, err := openObjects(t.Context(), config.Default(), map[string]string{fallbackKey: "file://" + dir + "/"}, zap.NewNop())
	must(t, err)
	defer s.close()
	out := migratetest.Output("app-1", 0, 7, 100)
	at, err := s.destination("app-1", nil, nil, nil).Put(t.Context(), out)
	if err != nil || at.Announced || at.Target.URL != s.bucket.URL() {
		t.Errorf("stored at %+v: %v", at, err)
	}
	if _, err := os.Stat(filepath.Join(dir, object.IndexKey(out.ID))); err != nil {
		t.Error(err)
	}
}

func TestCommonNamesOfStorages(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"s3://b/p", "s3a://b/p/", true},
		{"s3a://b/p", "s3a://b/q", false},
		{"abfs://c@a.dfs.core.windows.net/p", "abfss://c@a.dfs.core.windows.net/p", true},
		{"wasb://c@a.blob.core.windows.net/p", "wasbs://c@a.blob.core.windows.net/p", true},
		{"gs://b/p", "s3://b/p", false},
		{"", "", false},
	} {
		if got := sameObjects(tt.a, tt.b); got != tt.same {
			t.Errorf("%q and %q: same %v", tt.a, tt.b, got)
		}
	}
}
