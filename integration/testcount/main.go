// Command testcount adds up what `go test -json` wrote into files, and prints for CI what each failed test said last and the counts. It fails when
// a test failed or was skipped, when a file holds no test, and when a package that is needed had none that passed: a lane that did not
// run is no success.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
)

// counts are the tests of one or more runs; a package is counted by its own result.
type counts struct {
	packages, passed, failed, skipped int
}

func main() {
	seconds := flag.Int("seconds", 0, "how long all of it took, for the last line")
	need := flag.String("need", "", "ends of packages, with commas, of each of which a test must have passed")
	flag.Parse()
	ok, err := run(os.Stdout, flag.Args(), strings.FieldsFunc(*need, func(r rune) bool { return r == ',' }), *seconds)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testcount:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// run prints the names of what failed or was skipped, a line per file, and the sum.
func run(w io.Writer, files, need []string, seconds int) (bool, error) {
	var sum counts
	var errs []error
	ran := map[string]bool{}
	for _, name := range files {
		c, err := countFile(w, name, ran)
		if err == nil && c.passed == 0 {
			err = fmt.Errorf("%s: no test passed", name)
		}
		if err != nil {
			errs = append(errs, err)
		}
		fmt.Fprintf(w, "%s: %d packages, %d passed, %d failed, %d skipped\n", name, c.packages, c.passed, c.failed, c.skipped)
		sum.packages += c.packages
		sum.passed += c.passed
		sum.failed += c.failed
		sum.skipped += c.skipped
	}
	for _, end := range need {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(ran)), func(p string) bool { return strings.HasSuffix(p, "/"+end) }) {
			errs = append(errs, fmt.Errorf("no test of %s passed", end))
		}
	}
	fmt.Fprintf(w, "%d packages, %d s\n%d passed, %d failed, %d skipped\n", sum.packages, seconds, sum.passed, sum.failed, sum.skipped)
	return sum.failed+sum.skipped == 0, errors.Join(errs...)
}

func countFile(w io.Writer, name string, ran map[string]bool) (counts, error) {
	f, err := os.Open(name)
	if err != nil {
		return counts{}, err
	}
	defer f.Close()
	return count(w, f, ran)
}

// count reads the events of one run (see `go doc test2json`), and adds the packages of which a test passed to ran.
func count(w io.Writer, r io.Reader, ran map[string]bool) (counts, error) {
	var c counts
	blamed := map[string]bool{} // packages with a failed test
	words := sayings{}
	for d := json.NewDecoder(r); ; {
		var e struct{ Action, Package, Test, Output string }
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			return c, nil
		} else if err != nil {
			return c, err
		}
		if e.Action == "fail" && e.Test == "" && blamed[e.Package] {
			c.packages++
			continue
		}
		blamed[e.Package] = blamed[e.Package] || e.Action == "fail"
		if e.Action == "pass" && e.Test != "" {
			ran[e.Package] = true
		}
		words.hear(e.Package+" "+e.Test, e.Output)
		c.add(w, e.Action, e.Package, e.Test)
		if said := words.take(e.Action, e.Package+" "+e.Test); len(said) > 0 {
			fmt.Fprintln(w, strings.Join(said, "\n"))
		}
	}
}

const (
	lastLines = 12  // of a failed test are shown
	lineChars = 400 // of each line
)

// saying is how a line begins that a test has printed itself, or the runtime about it.
var saying = regexp.MustCompile(`^\s*(\w+\.go:\d+: |panic: |fatal error: |WARNING: DATA RACE)`)

// sayings are the last lines that running tests have said themselves: no logs that they show.
type sayings map[string][]string

func (s sayings) hear(test, line string) {
	if !saying.MatchString(line) {
		return
	}
	line = strings.TrimRight(line, "\n")
	s[test] = append(s[test], line[:min(len(line), lineChars)])
	s[test] = s[test][max(len(s[test])-lastLines, 0):]
}

// take is what a test that has failed said, and forgets what one said that has ended.
func (s sayings) take(action, test string) (said []string) {
	switch action {
	case "fail":
		said = s[test]
		fallthrough
	case "pass", "skip":
		delete(s, test)
	}
	return said
}

func (c *counts) add(w io.Writer, action, pkg, test string) {
	if test == "" { // the package itself; "skip" only says that it has no test files
		switch action {
		case "pass":
			c.packages++
		case "fail":
			c.packages++
			c.failed++
			fmt.Fprintln(w, "FAILED ", pkg)
		}
		return
	}
	switch action {
	case "pass":
		c.passed++
	case "fail":
		c.failed++
		fmt.Fprintln(w, "FAILED ", pkg, test)
	case "skip":
		c.skipped++
		fmt.Fprintln(w, "SKIPPED", pkg, test)
	}
}
