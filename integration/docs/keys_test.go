//go:build integration

// Package docs holds the documentation against the programs that it speaks of.
package docs

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/lifeboat/lifeboat/integration/tools"
)

var settingsKey = regexp.MustCompile("`(spark\\.[a-zA-Z.]+[a-zA-Z])")

// notSparks are keys below spark. that Spark itself does not know: Lifeboat's own, and those that it hands to Hadoop.
func notSparks(key string) bool {
	return key == "spark.restPorts" || strings.HasPrefix(key, "spark.hadoop.")
}

// TestSettingsExist: each setting that the guide names is one of the oldest or of the newest Spark of the tests.
func TestSettingsExist(t *testing.T) {
	guide, err := os.ReadFile("../../docs/spark-settings.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, version := range []string{"3.5.9", "4.3.0"} {
		all = append(all, names(t, version)...)
	}
	keys := map[string]bool{}
	for _, m := range settingsKey.FindAllStringSubmatch(string(guide), -1) {
		// Constants of node selectors are a prefix, and those of a module's transport are put together from two.
		key := strings.TrimSuffix(m[1], ".KEY")
		keys[key] = true
		if !notSparks(key) && !bytes.Contains(all, []byte(key)) && !bytes.Contains(all, []byte(strings.TrimPrefix(key, "spark.shuffle."))) {
			t.Errorf("no Spark of the tests knows %s", key)
		}
	}
	if len(keys) < 25 {
		t.Errorf("%d keys found in the guide", len(keys))
	}
}

// names is what the classes of Spark hold that looks like settings.
func names(t *testing.T, version string) []byte {
	t.Helper()
	home, err := tools.Path(t.Context(), "spark-"+version, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	var found []byte
	for _, jar := range []string{"spark-core", "spark-kubernetes", "spark-network-common", "spark-common-utils"} {
		files, _ := filepath.Glob(filepath.Join(home, "jars", jar+"_*.jar"))
		for _, f := range files {
			found = append(found, keysOf(t, f)...)
		}
	}
	if len(found) == 0 {
		t.Fatalf("no settings in Spark %s at %s", version, home)
	}
	return found
}

var inClass = regexp.MustCompile(`(spark|io)\.[a-zA-Z.]{4,100}`)

func keysOf(t *testing.T, jar string) (found []byte) {
	t.Helper()
	z, err := zip.OpenReader(jar)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for _, f := range z.File {
		if filepath.Ext(f.Name) != ".class" {
			continue
		}
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		class, err := io.ReadAll(r)
		_ = r.Close()
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range inClass.FindAll(class, -1) {
			found = append(append(found, key...), '\n')
		}
	}
	return found
}
