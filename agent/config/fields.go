package config

import (
	"reflect"
	"strconv"
	"strings"
	"time"
)

// field is one key with what its tags say about it.
type field struct {
	key      string // full path
	name     string // last part of key
	doc      string
	shown    string // what the reference shows as the default; "" for the default itself
	min, max string
	oneof    []string
	value    reflect.Value
}

// fields lists every key in the order of the structs.
func (c Config) fields() []field {
	var all []field
	visit(reflect.ValueOf(c), "", func(f field) { all = append(all, f) }, nil)
	return all
}

// visit walks the structs; leaf is called for each key with a value, group (unless nil) for each key with keys below it.
func visit(v reflect.Value, path string, leaf func(field), group func(name string, v reflect.Value)) {
	for i := range v.NumField() {
		t := v.Type().Field(i)
		name := t.Tag.Get("yaml")
		key := strings.TrimPrefix(path+"."+name, ".")
		if t.Type.Kind() == reflect.Struct {
			if group != nil {
				group(name, v.Field(i))
			} else {
				visit(v.Field(i), key, leaf, nil)
			}
			continue
		}
		f := field{
			key: key, name: name, doc: t.Tag.Get("doc"), shown: t.Tag.Get("shown"),
			min: t.Tag.Get("min"), max: t.Tag.Get("max"), value: v.Field(i),
		}
		if o := t.Tag.Get("oneof"); o != "" {
			f.oneof = strings.Split(o, "|")
		}
		leaf(f)
	}
}

// text is the value as it stands in a YAML file.
func (f field) text() string {
	switch v := f.value.Interface().(type) {
	case time.Duration:
		return Duration(v)
	case string:
		if v == "" {
			return `""`
		}
		return v
	case Toggle:
		return string(v)
	case int:
		return strconv.Itoa(v)
	case bool:
		return strconv.FormatBool(v)
	case []string:
		return "[" + strings.Join(v, ", ") + "]"
	case []int:
		s := make([]string, len(v))
		for i, n := range v {
			s[i] = strconv.Itoa(n)
		}
		return "[" + strings.Join(s, ", ") + "]"
	}
	return ""
}

// kind is the type as the reference names it.
func (f field) kind() string {
	switch f.value.Interface().(type) {
	case time.Duration:
		return "duration"
	case string, Toggle:
		return "text"
	case int:
		return "number"
	case bool:
		return "true or false"
	case []string:
		return "list of texts"
	case []int:
		return "list of numbers"
	}
	return f.value.Type().String()
}

// Duration is the shortest form that time.ParseDuration reads back: 2m and not 2m0s.
func Duration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
