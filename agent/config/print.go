package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Print writes the configuration as YAML that Parse reads back, each key with a comment that says
// what it is for.
func (c Config) Print(w io.Writer) error {
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(mapping(reflect.ValueOf(c))); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return enc.Close()
}

func mapping(v reflect.Value) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	add := func(name, comment string, value *yaml.Node) {
		key := &yaml.Node{Kind: yaml.ScalarNode, Value: name, HeadComment: comment}
		m.Content = append(m.Content, key, value)
	}
	visit(v, "", func(f field) { add(f.name, f.comment(), f.node()) },
		func(name string, sub reflect.Value) { add(name, "", mapping(sub)) })
	return m
}

// MarshalJSON is the configuration with the keys and values of the YAML file: durations as text.
func (c Config) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	if err := c.Print(&b); err != nil {
		return nil, err
	}
	var tree map[string]any
	if err := yaml.Unmarshal(b.Bytes(), &tree); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return json.Marshal(tree)
}

// node is the value as YAML; lists stand in one line.
func (f field) node() *yaml.Node {
	n := new(yaml.Node)
	v := f.value.Interface()
	if d, ok := v.(time.Duration); ok {
		v = Duration(d)
	}
	if t, ok := v.(Toggle); ok { // true and not "true"
		n.Kind, n.Value = yaml.ScalarNode, string(t)
		return n
	}
	if err := n.Encode(v); err != nil { // only for types that no field has
		panic("config: " + err.Error())
	}
	if n.Kind == yaml.SequenceNode {
		n.Style = yaml.FlowStyle
	}
	return n
}

func (f field) comment() string {
	if r := f.limits(); r != "" {
		return f.doc + " (" + r + ")"
	}
	return f.doc
}

// limits says what is accepted; "" when the doc says it all.
func (f field) limits() string {
	switch {
	case f.oneof != nil:
		return strings.Join(f.oneof, ", ")
	case f.min != "":
		return f.min + " to " + f.max
	}
	return ""
}

// Reference writes the table of all keys in Markdown, for docs/configuration.md.
func Reference(w io.Writer) error {
	var b strings.Builder
	b.WriteString("| Key | Default | Type | What it is for |\n|---|---|---|---|\n")
	for _, f := range Default().fields() {
		def := "`" + f.text() + "`"
		if f.shown != "" {
			def = f.shown
		}
		kind := f.kind()
		if l := f.limits(); l != "" {
			kind += ": " + l
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.key, def, kind, strings.ReplaceAll(f.doc, "|", `\|`))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
