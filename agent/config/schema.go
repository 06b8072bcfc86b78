package config

import (
	"reflect"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"
)

// durationPattern is what time.ParseDuration reads, without a sign.
const durationPattern = `^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$`

// Schema is the JSON Schema of the file, as maps that encoding/json writes. It refuses what can be told without knowing
// other keys: names, types, words, ranges of numbers. Ranges of durations are for Validate, which sees all.
func Schema() map[string]any { return schemaOf(reflect.ValueOf(Default())) }

func schemaOf(v reflect.Value) map[string]any {
	keys := map[string]any{}
	visit(v, "", func(f field) { keys[f.name] = f.schema() }, func(name string, sub reflect.Value) { keys[name] = wordSchema(sub) })
	return map[string]any{"type": "object", "additionalProperties": false, "properties": keys}
}

// wordSchema is that of keys below a key which may also be one word, the value of the first of them.
func wordSchema(v reflect.Value) map[string]any {
	s := schemaOf(v)
	type worded interface{ UnmarshalYAML(func(any) error) error }
	if !reflect.PointerTo(v.Type()).Implements(reflect.TypeFor[worded]()) {
		return s
	}
	var word map[string]any
	visit(v, "", func(f field) {
		if word == nil {
			word = f.schema()
		}
	}, func(string, reflect.Value) {})
	return map[string]any{"anyOf": []any{word, s}}
}

// schema is that of one value.
func (f field) schema() map[string]any {
	s := map[string]any{"description": f.comment()}
	switch f.value.Interface().(type) {
	case time.Duration:
		s["type"], s["pattern"] = "string", durationPattern
	case int:
		s["type"], s["minimum"], s["maximum"] = "integer", mustInt(f.min), mustInt(f.max)
	case bool:
		s["type"] = "boolean"
	case []string:
		s["type"], s["items"] = "array", map[string]any{"type": "string"}
	case []int:
		s["type"], s["items"] = "array", map[string]any{"type": "integer"}
	default: // string, Toggle
		if f.oneof == nil {
			s["type"] = "string"
			break
		}
		s["enum"] = f.words()
	}
	return s
}

// words are the accepted ones, and what YAML makes of those that it does not take for words.
func (f field) words() []any {
	var all []any
	for _, w := range f.oneof {
		all = append(all, w)
		var v any
		if yaml.Unmarshal([]byte(w), &v) == nil && !slices.Contains(all, v) {
			all = append(all, v)
		}
	}
	return all
}
