package runbook

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const first = "```sh\nexport A=1 # example\nf() { echo \"$A $1\"; }\n```\n"

func TestParse(t *testing.T) {
	steps, err := Parse([]byte("# T\n## One\n" + first + "text\n## Two\n```sh\nf x\n```\n```text\n1 …\n```\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(steps) != 2 || steps[1].Section != "Two" || steps[1].Line != 10 || steps[1].Script != "f x" || len(steps[1].Sample) != 1 {
		t.Errorf("%+v", steps)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-ec", Prelude(steps[0])+"\n"+steps[1].Script)
	cmd.Env = []string{"A=7"}
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "7 x\n" {
		t.Errorf("%v %s", err, out)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		want error
	}{
		"no sample":          {first + "```sh\nf\n```\n", errNoSample},
		"two blocks":         {first + "```sh\nf\n```\n```sh\nf\n```\n```text\nx\n```\n", errNoSample},
		"another language":   {first + "```bash\nf\n```\n", errFence},
		"no language":        {first + "```\nf\n```\n", errFence},
		"no end":             {first + "```sh\nf\n", errOpen},
		"sample of nothing":  {"```text\nx\n```\n", nil},
		"two samples":        {first + "```sh\nf\n```\n```text\nx\n```\n```text\ny\n```\n", nil},
		"sample of anything": {first + "```sh\nf\n```\n```text\n…\n … …\n```\n", errAnything},
		"inline command":     {first + "text (`kubectl taint node NAME\nx-`)\n", errInline},
		"an empty sample":    {first + "```sh\nf\n```\n```text\n```\n", nil},
		"sample of settings": {first + "```text\nx\n```\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse([]byte(tt.text)); err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

func TestCompare(t *testing.T) {
	const out = "NAME   READY   NODE\nx-1    1/1     node-a\n"
	for sample, ok := range map[string]bool{
		"NAME … NODE": true, "NAME READY NODE": true, "… node-a": true, "…": true, "x-1 1/1 node-a": true, "…1/1…": true,
		"READY": false, "NAME … node-a": false, "… node": false, "x.1 1/1 node-a": false, "NODE … NAME": false,
	} {
		if err := Compare([]string{sample}, out); (err == nil) != ok {
			t.Errorf("%q: %v", sample, err)
		}
	}
	if err := Compare([]string{"NAME …", "nothing"}, out); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Error(err)
	}
}

// theRunbook is what is shipped.
func theRunbook(t *testing.T) []Step {
	t.Helper()
	data, err := os.ReadFile("../../deploy/runbooks/preemption.md")
	if err != nil {
		t.Fatal(err)
	}
	steps, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

// TestThePreemptionRunbook can be read, and nothing in it is a placeholder that a person would have to fill in by hand
// but what the first block names.
func TestThePreemptionRunbook(t *testing.T) {
	steps := theRunbook(t)
	if len(steps) < 20 {
		t.Errorf("%d steps", len(steps))
	}
	for _, s := range steps {
		if strings.ContainsAny(s.Script, "<>") || strings.Contains(s.Script, "…") {
			t.Errorf("line %d: a placeholder in %s", s.Line, s.Script)
		}
		if out, err := exec.CommandContext(t.Context(), "bash", "-nc", s.Script).CombinedOutput(); err != nil {
			t.Errorf("line %d: %v %s", s.Line, err, out)
		}
	}
}

// TestOnlyASilentNodeLosesItsDisks: what the kubelet itself says of Ready, be it False, shows that its machine runs.
func TestOnlyASilentNodeLosesItsDisks(t *testing.T) {
	steps := theRunbook(t)
	i := slices.IndexFunc(steps, func(s Step) bool { return strings.Contains(s.Script, "out-of-service=") })
	if i < 0 {
		t.Fatal("the runbook does not set the taint")
	}
	for answer, taints := range map[string]bool{
		"echo Unknown": true, "echo True": false, "echo False": false, "echo": false, "echo not found >&2; exit 1": false,
	} {
		t.Run(answer, func(t *testing.T) {
			bin := t.TempDir()
			kubectl := "#!/bin/sh\ncase $1 in taint) echo node/x tainted;; *) " + answer + ";; esac\n"
			if err := os.WriteFile(filepath.Join(bin, "kubectl"), []byte(kubectl), 0o755); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "bash", "-c", steps[i].Script)
			cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "NODE=x"}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatal(err)
			}
			if err := Compare(steps[i].Sample, string(out)); (err == nil) != taints || strings.Contains(string(out), "tainted") != taints {
				t.Errorf("%v: it says\n%s", err, out)
			}
		})
	}
}
