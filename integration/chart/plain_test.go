//go:build integration

package chart

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestPlainManifestsAreUpToDate: those in deploy/manifests are what the chart makes.
func TestPlainManifestsAreUpToDate(t *testing.T) {
	root, err := Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(root, "deploy", "manifests")
	names := map[string]bool{}
	for name, m := range Plain() {
		names[name] = true
		now, err := renderer.Plain(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if err := check(t, now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		path := filepath.Join(folder, name)
		if *update {
			if err := os.WriteFile(path, now, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if was, err := os.ReadFile(path); err != nil || !bytes.Equal(was, now) {
			t.Errorf("%s is out of date (%v): make manifests", name, err)
		}
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !names[e.Name()] {
			t.Errorf("%s is made by nobody", e.Name())
		}
	}
}

// plain are the objects of some of these manifests, as kind, namespace and name.
func plain(t *testing.T, names ...string) []string {
	t.Helper()
	var all []string
	for _, name := range names {
		manifest, err := renderer.Plain(t.Context(), Plain()[name])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, named(t, manifest)...)
	}
	slices.Sort(all)
	return all
}

func named(t *testing.T, manifest []byte) []string {
	t.Helper()
	var all []string
	for kind, list := range objects(t, manifest) {
		for _, o := range list {
			namespace, _ := at(t, o, "metadata", "namespace").(string)
			all = append(all, kind+" "+namespace+"/"+at(t, o, "metadata", "name").(string))
		}
	}
	slices.Sort(all)
	return all
}

// TestPlainManifestsLeaveNothingOut: side by side they are what Helm installs, and the namespace; and none has anything of another.
func TestPlainManifestsLeaveNothingOut(t *testing.T) {
	for agent, metrics := range map[string]bool{"agent.yaml": false, "agent-metrics.yaml": true} {
		values := survivors()
		values["rbac"], values["metrics"] = node{"ownNodeOnly": true}, node{"enabled": metrics}
		want := slices.DeleteFunc(named(t, render(t, values)), func(o string) bool { return o == "Service lifeboat/lifeboat-survivor-metrics" })
		want = slices.Sorted(slices.Values(append(want, "Namespace /lifeboat")))
		if got := plain(t, agent, "own-node-policy.yaml", "survivor.yaml"); !slices.Equal(got, want) {
			t.Errorf("%s and the others: %q\nHelm: %q", agent, got, want)
		}
	}
}

// TestPlainManifestsSuitOldKubernetes: all but the policy are of APIs that Kubernetes 1.28 has.
func TestPlainManifestsSuitOldKubernetes(t *testing.T) {
	old := []string{"v1", "apps/v1", "policy/v1", "rbac.authorization.k8s.io/v1"}
	for _, name := range slices.Sorted(maps.Keys(Plain())) {
		manifest, err := renderer.Plain(t.Context(), Plain()[name])
		if err != nil {
			t.Fatal(err)
		}
		for kind, list := range objects(t, manifest) {
			for _, o := range list {
				if slices.Contains(old, o["apiVersion"].(string)) == (name == "own-node-policy.yaml") {
					t.Errorf("%s: %s of %v", name, kind, o["apiVersion"])
				}
			}
		}
	}
}
