package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

const swagger = `{"definitions": {
	"v1.Box": {"type": "object", "x-kubernetes-group-version-kind": [{"group": "apps", "version": "v1", "kind": "Box"}],
		"properties": {"size": {"$ref": "#/definitions/Quantity"}, "port": {"$ref": "#/definitions/IntOrString"}, "inner": {"$ref": "#/definitions/v1.Inner"},
			"labels": {"type": "object", "additionalProperties": {"type": "string"}}}},
	"v1.Inner": {"type": "object", "properties": {"inner": {"$ref": "#/definitions/v1.Inner"}, "properties": {"type": "object"}}},
	"v1.Pod": {"type": "object", "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Pod"}]},
	"v1.Options": {"x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Options"}, {"group": "apps", "version": "v1", "kind": "Options"}]},
	"Quantity": {"description": "Quantity is a fixed-point representation of a number. More.", "type": "string"},
	"IntOrString": {"type": "string", "format": "int-or-string"}
}}`

const crd = `
kind: CustomResourceDefinition
spec:
  group: monitoring.example.com
  names: {kind: PodWatch}
  versions:
  - name: v1
    schema:
      openAPIV3Schema:
        type: object
        properties:
          metadata: {type: object}
          free: {type: object, x-kubernetes-preserve-unknown-fields: true, properties: {a: {type: string}}}
          port: {x-kubernetes-int-or-string: true, anyOf: [{type: integer}, {type: string}]}
          spec: {type: object, properties: {a: {type: string}}}
`

// TestFiles writes both kinds of schemas and looks at what they say.
func TestFiles(t *testing.T) {
	in, out := t.TempDir(), filepath.Join(t.TempDir(), "out")
	for name, text := range map[string]string{"swagger.json": swagger, "crd.yaml": crd} {
		if err := os.WriteFile(filepath.Join(in, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := run(out, filepath.Join(in, "swagger.json"), []string{filepath.Join(in, "crd.yaml")}); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(out)
	if err != nil || len(files) != 3 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, tt := range []struct {
		file string
		path []string
		want string
	}{
		{"box-apps-v1.json", []string{"definitions", "v1.Box", "additionalProperties"}, `false`},
		{"box-apps-v1.json", []string{"definitions", "v1.Inner", "additionalProperties"}, `false`},
		{"box-apps-v1.json", []string{"definitions", "v1.Inner", "properties", "additionalProperties"}, `null`},
		{"box-apps-v1.json", []string{"definitions", "v1.Box", "properties", "labels", "additionalProperties"}, `{"type":"string"}`},
		{"box-apps-v1.json", []string{"definitions", "Quantity", "type"}, `["string","number"]`},
		{"box-apps-v1.json", []string{"definitions", "IntOrString"}, `{"type":["string","integer"]}`},
		{"box-apps-v1.json", []string{"definitions", "v1.Pod"}, `null`},
		{"pod-v1.json", []string{"allOf"}, `[{"$ref":"#/definitions/v1.Pod"},{"required":["apiVersion","kind"]}]`},
		{"podwatch-monitoring-v1.json", []string{"additionalProperties"}, `false`},
		{"podwatch-monitoring-v1.json", []string{"properties", "spec", "additionalProperties"}, `false`},
		{"podwatch-monitoring-v1.json", []string{"properties", "metadata"}, `{"type":"object"}`},
		{"podwatch-monitoring-v1.json", []string{"properties", "free", "additionalProperties"}, `null`},
	} {
		if got := at(t, filepath.Join(out, tt.file), tt.path); got != tt.want {
			t.Errorf("%s %v: %s, want %s", tt.file, tt.path, got, tt.want)
		}
	}
}

// at is what stands at a path of a JSON file, or null.
func at(t *testing.T, file string, path []string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	for _, key := range path {
		o, _ := v.(object)
		v = o[key]
	}
	text, err = json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestRefuses(t *testing.T) {
	for _, text := range []string{"", "{}", `{"definitions": {"a": 1}}`, `{"definitions": {"a": {}}}`} {
		if _, err := ofKubernetes([]byte(text)); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
	for _, text := range []string{"", "kind: Pod", "kind: CustomResourceDefinition", "\t"} {
		if _, err := ofCustomResource([]byte(text)); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
	if err := run("", "", nil); err == nil {
		t.Error("no folder, and no error")
	}
}
