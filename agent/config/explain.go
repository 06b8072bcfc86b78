package config

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Messages of the YAML package that are rewritten for a person who knows keys, not Go types.
var (
	unknownField = regexp.MustCompile(`^line (\d+): field (.*) not found in type \S+$`)
	wrongType    = regexp.MustCompile("(?s)^line (\\d+): cannot unmarshal (\\S+)(?: `(.*)`)? into (.+)$")
	repeatedKey  = regexp.MustCompile(`^line (\d+): mapping key "(.*)" already defined at line (\d+)$`)
)

// ParseError is one mistake in the file.
type ParseError struct {
	File    string
	Line    int    // 0 when the YAML package does not say
	Key     string // full path, as providers.aws.poll; "" when unknown
	Problem string
}

func (e *ParseError) Error() string {
	at := e.File
	if e.Line > 0 {
		at += ":" + strconv.Itoa(e.Line)
	}
	if e.Key != "" {
		return fmt.Sprintf("%s: %s: %s", at, e.Key, e.Problem)
	}
	return at + ": " + e.Problem
}

// explain turns the YAML package's errors into ParseErrors, one for each mistake.
func explain(file string, data []byte, err error) error {
	var te *yaml.TypeError
	if !errors.As(err, &te) {
		return &ParseError{File: file, Problem: strings.TrimPrefix(err.Error(), "yaml: ")}
	}
	keys := keyLines(data)
	all := make([]error, 0, len(te.Errors))
	for _, msg := range te.Errors {
		all = append(all, explainOne(file, keys, msg))
	}
	return errors.Join(all...)
}

func explainOne(file string, keys map[int][]string, msg string) *ParseError {
	if m := unknownField.FindStringSubmatch(msg); m != nil {
		e := at(file, keys, m[1], m[2])
		e.Problem = "unknown key" + suggest(e.Key)
		return e
	}
	if m := repeatedKey.FindStringSubmatch(msg); m != nil {
		e := at(file, keys, m[1], m[2])
		e.Problem = "already set in line " + m[3]
		return e
	}
	if m := wrongType.FindStringSubmatch(msg); m != nil {
		e := at(file, keys, m[1], "")
		e.Problem = fmt.Sprintf("want %s, not %s", goType(m[4]), yamlType(m[2], m[3]))
		return e
	}
	return &ParseError{File: file, Problem: msg}
}

// at finds the key in a line: the one that ends in last, or the deepest when last is empty.
func at(file string, keys map[int][]string, line, last string) *ParseError {
	n, _ := strconv.Atoi(line)
	e := &ParseError{File: file, Line: n, Key: last}
	for _, k := range keys[n] {
		if last == "" || k == last || strings.HasSuffix(k, "."+last) {
			e.Key = k
		}
	}
	return e
}

// keyLines maps a line to the full paths of the keys whose name or value is in it, outermost first.
func keyLines(data []byte) map[int][]string {
	lines := map[int][]string{}
	var doc yaml.Node
	if yaml.Unmarshal(data, &doc) != nil || len(doc.Content) == 0 {
		return lines
	}
	var walk func(n *yaml.Node, path string, depth int)
	walk = func(n *yaml.Node, path string, depth int) {
		if depth > 20 { // deeper than any key of ours; an alias may even point back at itself
			return
		}
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				k, v := n.Content[i], n.Content[i+1]
				sub := strings.TrimPrefix(path+"."+k.Value, ".")
				lines[k.Line] = append(lines[k.Line], sub)
				if v.Line != k.Line && v.Kind == yaml.ScalarNode {
					lines[v.Line] = append(lines[v.Line], sub)
				}
				walk(v, sub, depth+1)
			}
		case yaml.SequenceNode:
			for _, v := range n.Content {
				lines[v.Line] = append(lines[v.Line], path)
				walk(v, path, depth+1)
			}
		}
	}
	walk(doc.Content[0], "", 0)
	return lines
}

// suggest names the known key that was probably meant: one with this very name elsewhere, or one that is nearly this.
func suggest(key string) string {
	name := key[strings.LastIndexByte(key, '.')+1:]
	best, least := "", 3
	for _, f := range Default().fields() {
		if f.name == name {
			best = f.key
			break
		}
		if d := distance(strings.ToLower(key), strings.ToLower(f.key)); d < least {
			best, least = f.key, d
		}
	}
	if best == "" {
		return ""
	}
	return "; do you mean " + best + "?"
}

// distance is the number of letters to change (Levenshtein); long strings are far from everything.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j+1]+1, row[j]+1, diagonal+cost)
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

func goType(t string) string {
	switch {
	case t == "time.Duration":
		return "a duration such as 500ms, 2s or 1m30s"
	case t == "int":
		return "a whole number"
	case t == "bool":
		return "true or false"
	case t == "config.Toggle":
		return "true, false or auto"
	case t == "string":
		return "text"
	case strings.HasPrefix(t, "[]"):
		return "a list in [ ]"
	case strings.HasPrefix(t, "config."):
		return "keys below this one"
	}
	return t
}

func yamlType(tag, value string) string {
	switch tag {
	case "!!map":
		return "keys"
	case "!!seq":
		return "a list"
	}
	if value == "" {
		return strings.TrimPrefix(tag, "!!")
	}
	return strconv.Quote(value)
}
