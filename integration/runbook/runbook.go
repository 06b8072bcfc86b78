// Package runbook reads the commands of a runbook and what they are said to look like, so that a test can run every one of them
// and compare. It stands beside the way of a rescue: only tests use it.
package runbook

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Step is one block of commands, as a person would paste it.
type Step struct {
	Section string // the heading above
	Line    int    // of the first command
	Script  string // for a shell
	Sample  []string
}

// Errors of Parse say where.
var (
	errNoSample = errors.New("a block of commands needs what it looks like after it")
	errOpen     = errors.New("a block has no end")
	errFence    = errors.New("a block is neither sh nor text: commands that no test runs have no place here")
	errInline   = errors.New("a command stands in the text, where no test runs it: give it a block")
	errAnything = errors.New("a sample of … alone: every output looks like that, and so does none")
)

// Parse finds all blocks of commands (```sh), each with the sample (```text) that follows it directly. The first block sets what the others
// need, and has none. A command of kubectl elsewhere is refused: nothing would run it.
func Parse(document []byte) ([]Step, error) {
	var steps []Step
	var block []string
	kind, section, line, began := "", "", 0, 0
	lines := bufio.NewScanner(bytes.NewReader(document))
	for lines.Scan() {
		line++
		text := lines.Text()
		fence, isFence := strings.CutPrefix(text, "```")
		switch {
		case kind == "" && strings.HasPrefix(text, "## "):
			section = strings.TrimPrefix(text, "## ")
		case kind == "" && isFence:
			if fence != "sh" && fence != "text" {
				return nil, fmt.Errorf("line %d: %w", line, errFence)
			}
			kind, began, block = fence, line, nil
		case kind == "sh" && isFence:
			if len(steps) > 1 && steps[len(steps)-1].Sample == nil {
				return nil, fmt.Errorf("line %d: %w", steps[len(steps)-1].Line, errNoSample)
			}
			steps = append(steps, Step{Section: section, Line: began + 1, Script: strings.Join(block, "\n")})
			kind = ""
		case kind == "" && strings.Contains(text, "`kubectl "):
			return nil, fmt.Errorf("line %d: %w", line, errInline)
		case isFence && !says(block):
			return nil, fmt.Errorf("line %d: %w", began, errAnything)
		case isFence:
			if len(steps) < 2 || steps[len(steps)-1].Sample != nil || len(block) == 0 {
				return nil, fmt.Errorf("line %d: a sample without commands above it, or an empty one", began)
			}
			steps[len(steps)-1].Sample = block
			kind = ""
		case kind != "":
			block = append(block, text)
		}
	}
	switch {
	case lines.Err() != nil:
		return nil, lines.Err()
	case kind != "":
		return nil, fmt.Errorf("line %d: %w", began, errOpen)
	case len(steps) > 1 && steps[len(steps)-1].Sample == nil:
		return nil, fmt.Errorf("line %d: %w", steps[len(steps)-1].Line, errNoSample)
	}
	return steps, nil
}

// says is true of a sample that some output could differ from, and of an empty one.
func says(sample []string) bool {
	return len(sample) == 0 || strings.Trim(strings.Join(sample, ""), "… \t") != ""
}

// export is a line that gives a variable a value of an example.
var export = regexp.MustCompile(`(?m)^export [A-Z_]+=.*\n?`)

// Prelude is the first step without the values of its example: those come from the environment.
func Prelude(first Step) string { return export.ReplaceAllString(first.Script, "") }

// Compare says which lines of a sample an output lacks. … stands for anything; blanks count as one.
func Compare(sample []string, output string) error {
	var missing []error
	for _, want := range sample {
		parts := strings.Split(squeeze(want), "…")
		for i, p := range parts {
			parts[i] = regexp.QuoteMeta(strings.TrimSpace(p))
		}
		pattern := regexp.MustCompile("^" + strings.Join(parts, ".*") + "$")
		if !anyLine(output, func(line string) bool { return pattern.MatchString(squeeze(line)) }) {
			missing = append(missing, fmt.Errorf("no line looks like %q", want))
		}
	}
	return errors.Join(missing...)
}

func anyLine(s string, is func(string) bool) bool {
	for line := range strings.Lines(s) {
		if is(line) {
			return true
		}
	}
	return is("")
}

func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }
