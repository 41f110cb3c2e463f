// Package openapi reads what Keybrake's tables are held against: Stripe's OpenAPI document of API v1, as it
// is embedded in the module github.com/stripe/stripe-mock.
package openapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/stripe/stripe-mock/embedded"
)

// Document is the part of the document that the tables are made from.
type Document struct {
	Info struct {
		Version string `json:"version"`
	} `json:"info"`
	Paths      map[string]map[string]*Operation `json:"paths"`
	Components struct {
		Schemas map[string]*Schema `json:"schemas"`
	} `json:"components"`
}

// Operation is one method of one path.
type Operation struct {
	OperationID string `json:"operationId"`
	Parameters  []struct {
		Name     string  `json:"name"`
		In       string  `json:"in"`
		Required bool    `json:"required"`
		Schema   *Schema `json:"schema"`
	} `json:"parameters"`
	RequestBody struct {
		Content map[string]struct {
			Schema *Schema `json:"schema"`
		} `json:"content"`
	} `json:"requestBody"`
	Responses map[string]struct {
		Content map[string]struct {
			Schema *Schema `json:"schema"`
		} `json:"content"`
	} `json:"responses"`
}

// Schema is a JSON schema as far as the document uses it.
type Schema struct {
	Ref        string             `json:"$ref"`
	Type       string             `json:"type"`
	Format     string             `json:"format"`
	MaxLength  int                `json:"maxLength"`
	Enum       []any              `json:"enum"`
	Properties map[string]*Schema `json:"properties"`
	Required   []string           `json:"required"`
	Items      *Schema            `json:"items"`
	AnyOf      []*Schema          `json:"anyOf"`
	Nullable   bool               `json:"nullable"`
	// Additional is a schema for maps, or false.
	Additional json.RawMessage `json:"additionalProperties"`
	Expandable []string        `json:"x-expandableFields"`
	Expansion  *struct {
		OneOf []*Schema `json:"oneOf"`
	} `json:"x-expansionResources"`
	ResourceID string `json:"x-resourceId"`
}

// Load parses the embedded document.
func Load() (*Document, error) {
	var d Document
	if err := json.Unmarshal(embedded.OpenAPISpec, &d); err != nil {
		return nil, fmt.Errorf("parse the OpenAPI document: %w", err)
	}
	return &d, nil
}

// Each calls f for every operation, by path then method. The method is in upper case.
func (d *Document) Each(f func(method, path string, op *Operation)) {
	paths := make([]string, 0, len(d.Paths))
	for p := range d.Paths {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	for _, p := range paths {
		for _, m := range []string{"delete", "get", "post"} {
			if op := d.Paths[p][m]; op != nil {
				f(strings.ToUpper(m), p, op)
			}
		}
	}
}

// Resolve follows a reference to its component; other schemas come back as they are.
func (d *Document) Resolve(s *Schema) *Schema {
	for s != nil && s.Ref != "" {
		s = d.Components.Schemas[Name(s)]
	}
	return s
}

// Name is the component that a schema refers to; empty for an inline one.
func Name(s *Schema) string { return strings.TrimPrefix(s.Ref, "#/components/schemas/") }

// Request is the schema of everything that an operation takes, path parameters excepted.
func (op *Operation) Request() *Schema {
	all := &Schema{Type: "object", Properties: map[string]*Schema{}}
	for _, p := range op.Parameters {
		if p.In == "query" {
			all.Properties[p.Name] = p.Schema
			if p.Required {
				all.Required = append(all.Required, p.Name)
			}
		}
	}
	for _, c := range op.RequestBody.Content {
		for name, s := range c.Schema.Properties {
			all.Properties[name] = s
		}
		all.Required = append(all.Required, c.Schema.Required...)
	}
	return all
}

// Answer is the schema of an operation's success; nil if it is not JSON.
func (op *Operation) Answer() *Schema {
	for _, status := range []string{"200"} {
		if c, ok := op.Responses[status].Content["application/json"]; ok {
			return c.Schema
		}
	}
	return nil
}

// Tables are the generated files by their path below internal/upstream/stripe: what the catalog reads, and what
// the sandbox, which shares nothing with it, holds itself to.
func Tables(d *Document) map[string]string {
	return map[string]string{
		"tables/params.txt":           ParamTable(d),
		"tables/expand.txt":           ExpandTable(d),
		"sandbox/params.txt":          SandboxParams(d),
		"sandbox/expand.txt":          SandboxExpand(d),
		"sandbox/testdata/shapes.txt": SandboxShapes(d),
	}
}
