//go:build integration

package chart

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lifeboat/lifeboat/agent/kube"
	"github.com/lifeboat/lifeboat/agent/survivor"
	notices "github.com/lifeboat/lifeboat/providers/kube"
)

// page is a document of this repository.
func page(t *testing.T, name string) string {
	t.Helper()
	root, err := Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestSecurityPageNamesEveryRight: who reads it knows all that the chart asks for.
func TestSecurityPageNamesEveryRight(t *testing.T) {
	agent, survivors, found := strings.Cut(page(t, "security.md"), "The survivor has its own service account")
	if !found {
		t.Fatal("where does the survivor's part begin?")
	}
	row := func(part, resource string, verbs []string) {
		if want := "| `" + resource + "` | " + strings.Join(verbs, ", ") + " | "; !strings.Contains(part, want) {
			t.Errorf("no row %q", want)
		}
	}
	for _, p := range kube.Permissions() {
		row(agent, p.Resource, p.Verbs)
	}
	for _, p := range survivor.Permissions("lifeboat") {
		row(survivors, p.Resource, p.Verbs)
	}
	for _, capability := range capabilities(t, nil) {
		if !strings.Contains(agent, fmt.Sprintf("`%v`", capability)) {
			t.Errorf("%v is not explained", capability)
		}
	}
}

// TestUpgradePageNamesWhatStays: what only a running Lifeboat takes back is for a person to take back once it is uninstalled.
func TestUpgradePageNamesWhatStays(t *testing.T) {
	_, text, _ := strings.Cut(page(t, "upgrade.md"), "## Uninstalling")
	inPath := strings.NewReplacer(".", `\.`) // as jsonpath wants keys
	for _, want := range []string{
		notices.OwnTaint + "-", "kubectl annotate node NAME " + survivor.DeadMark + "-", "kubectl taint node NAME node.kubernetes.io/out-of-service-",
		"annotations." + inPath.Replace(survivor.DeadMark), "annotations." + inPath.Replace(notices.HiddenSelector),
		"label pvc NAME " + notices.LabelApp + "=", "annotate pvc NAME " + notices.HiddenSelector + "-",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not there", want)
		}
	}
}

// TestInstallPageNamesEveryPreset with the labels that it stands for.
func TestInstallPageNamesEveryPreset(t *testing.T) {
	text := page(t, "install.md")
	for _, preset := range []string{"eks", "gke", "aks", "karpenter", "any"} {
		if !strings.Contains(text, "| `"+preset+"` |") {
			t.Errorf("no row for %s", preset)
		}
	}
	for _, label := range selected(t, nil) {
		key, _, _ := strings.Cut(label, "=")
		if !strings.Contains(text, key) {
			t.Errorf("%s is not named", key)
		}
	}
}
