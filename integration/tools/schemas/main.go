// Command schemas writes the JSON schemas that kubeconform checks manifests with, from the API description in the
// module of Kubernetes and from the definitions of custom resources. They are strict, and need no network:
//
//	schemas -out FOLDER -openapi swagger.json CRD.yaml...
//	kubeconform -schema-location 'FOLDER/{{.ResourceKind}}{{.KindSuffix}}.json' MANIFEST...
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// object is a piece of JSON or of a schema.
type object = map[string]any

func main() {
	out := flag.String("out", "", "folder for the schemas")
	openapi := flag.String("openapi", "", "the API description of Kubernetes, api/openapi-spec/swagger.json of its module")
	flag.Parse()
	if err := run(*out, *openapi, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "schemas:", err)
		os.Exit(1)
	}
}

func run(out, openapi string, crds []string) error {
	if out == "" || openapi == "" {
		return errors.New("say -out and -openapi")
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	text, err := os.ReadFile(openapi)
	if err != nil {
		return err
	}
	builtin, err := ofKubernetes(text)
	if err != nil {
		return fmt.Errorf("%s: %w", openapi, err)
	}
	schemas := builtin
	for _, name := range crds {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		custom, err := ofCustomResource(text)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		maps.Copy(schemas, custom)
	}
	for name, schema := range schemas {
		text, err := json.Marshal(schema)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(out, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// fileOf is the name under which kubeconform looks for a kind: {{.ResourceKind}}{{.KindSuffix}}.json.
func fileOf(group, version, kind string) string {
	first, _, _ := strings.Cut(group, ".")
	if first != "" {
		first += "-"
	}
	return strings.ToLower(kind + "-" + first + version + ".json")
}

// ofKubernetes returns a schema for each kind of the API by its file's name.
func ofKubernetes(swagger []byte) (map[string]object, error) {
	var doc struct{ Definitions object }
	if err := json.Unmarshal(swagger, &doc); err != nil {
		return nil, err
	}
	strict(object{"definitions": doc.Definitions})
	schemas := map[string]object{}
	for name, v := range doc.Definitions {
		definition, ok := v.(object)
		if !ok {
			return nil, fmt.Errorf("definition %s is no object", name)
		}
		kinds, _ := definition["x-kubernetes-group-version-kind"].([]any)
		if len(kinds) != 1 { // none: a part of others; several: as DeleteOptions, no resource
			continue
		}
		kind, _ := kinds[0].(object)
		group, _ := kind["group"].(string)
		version, _ := kind["version"].(string)
		word, _ := kind["kind"].(string)
		schemas[fileOf(group, version, word)] = object{
			"$schema": "http://json-schema.org/draft-07/schema#",
			"allOf": []any{
				object{"$ref": "#/definitions/" + name},
				object{"required": []any{"apiVersion", "kind"}},
			},
			"definitions": needed(name, doc.Definitions),
		}
	}
	if len(schemas) == 0 {
		return nil, errors.New("it describes no kind")
	}
	return schemas, nil
}

// needed are the definitions that one of them refers to, itself among them.
func needed(name string, all object) object {
	found := object{}
	todo := []string{name}
	for len(todo) > 0 {
		name, todo = todo[0], todo[1:]
		if _, ok := found[name]; ok || all[name] == nil {
			continue
		}
		found[name] = all[name]
		walk(all[name], func(o object) {
			if ref, ok := o["$ref"].(string); ok {
				todo = append(todo, strings.TrimPrefix(ref, "#/definitions/"))
			}
		})
	}
	return found
}

// ofCustomResource returns a schema for each version of the custom resource that a CustomResourceDefinition defines.
func ofCustomResource(definition []byte) (map[string]object, error) {
	var crd struct {
		Kind string
		Spec struct {
			Group    string
			Names    struct{ Kind string }
			Versions []struct {
				Name   string
				Schema struct {
					OpenAPIV3Schema object `json:"openAPIV3Schema"`
				}
			}
		}
	}
	if err := yaml.Unmarshal(definition, &crd); err != nil {
		return nil, err
	}
	if crd.Kind != "CustomResourceDefinition" || len(crd.Spec.Versions) == 0 {
		return nil, errors.New("not a CustomResourceDefinition")
	}
	schemas := map[string]object{}
	for _, v := range crd.Spec.Versions {
		schema := v.Schema.OpenAPIV3Schema
		strict(schema)
		schemas[fileOf(crd.Spec.Group, v.Name, crd.Spec.Names.Kind)] = schema
	}
	return schemas, nil
}

// strict makes schemas refuse fields that they do not know, and accept the values that are written in two ways.
func strict(all any) {
	walk(all, func(o object) {
		format, _ := o["format"].(string)
		properties, _ := o["properties"].(object) // none: anything, as of the metadata of a custom resource
		switch {
		case format == "int-or-string" || o["x-kubernetes-int-or-string"] == true:
			delete(o, "type")
			delete(o, "format")
			o["type"] = []any{"string", "integer"}
		case isQuantity(o):
			o["type"] = []any{"string", "number"}
		case len(properties) > 0 && o["additionalProperties"] == nil && o["x-kubernetes-preserve-unknown-fields"] != true:
			o["additionalProperties"] = false
		}
	})
}

// isQuantity: the definition of resource.Quantity, a string by its schema, which may be written as a number.
func isQuantity(o object) bool {
	text, _ := o["description"].(string)
	return o["type"] == "string" && strings.HasPrefix(text, "Quantity is a fixed-point representation of a number.")
}

// walk calls f for each schema in a schema, itself among them. The names of properties and definitions are no keywords.
func walk(v any, f func(object)) {
	switch v := v.(type) {
	case object:
		f(v)
		for key, child := range v {
			named, ok := child.(object)
			if !ok || key != "properties" && key != "definitions" {
				walk(child, f)
				continue
			}
			for _, schema := range named {
				walk(schema, f)
			}
		}
	case []any:
		for _, child := range v {
			walk(child, f)
		}
	}
}
