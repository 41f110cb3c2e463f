package stripe

import (
	"fmt"
	"io/fs"
	"slices"

	"github.com/keybrake/keybrake/internal/policy"
)

// Catalog is every operation that Keybrake knows, with its rules. It is immutable.
type Catalog struct {
	rows   []*Row
	byCall map[string]*Row // by "METHOD template"
	byName map[policy.OperationName]*Row
	// buckets are the resources that money can be counted on.
	buckets map[policy.Resource]bool
	// risks are what people say of each resource that a policy can name.
	risks map[policy.Resource]*Judgement
	// previews are Stripe's routes that tell what a call would come to, by name.
	previews map[string]*PreviewRule
	// finals tell when the last word about an object has been spoken, by its type.
	finals  map[string][]LastWord
	routes  *route
	expands *expansions
}

// loadCatalog parses the tables and checks them against each other. The first row that does not parse, or
// that names something unknown, is the error: a catalog is whole or it is not there.
func loadCatalog(files fs.FS) (*Catalog, error) {
	c := &Catalog{
		byCall: map[string]*Row{}, byName: map[policy.OperationName]*Row{},
		buckets: map[policy.Resource]bool{}, previews: map[string]*PreviewRule{},
	}
	links, err := loadLinks(files)
	if err != nil {
		return nil, err
	}
	steps := []struct {
		table, columns string
		add            func(record) error
	}{
		{"tables/operations.csv", "method path name resource access release default host object witness notes", c.addOperation},
		{"tables/money.csv", moneyColumns, c.addMoney},
		{"tables/effects.csv", effectColumns, c.addEffect},
		{"tables/finals.csv", finalColumns, c.addFinal},
		{"tables/previews.csv", previewColumns, c.addPreview},
		{"tables/customers.csv", "method path customer also_check creates", func(r record) error { return c.addCustomer(r, links) }},
	}
	for _, s := range steps {
		if err := readTable(files, s.table, s.columns, s.add); err != nil {
			return nil, err
		}
	}
	if err := c.loadParams(files); err != nil {
		return nil, err
	}
	if c.routes, err = buildRoutes(c.rows); err != nil {
		return nil, err
	}
	if c.expands, err = c.loadExpansions(files); err != nil {
		return nil, err
	}
	if err := c.loadRisks(files); err != nil {
		return nil, err
	}
	for _, row := range c.rows {
		if err := c.check(row); err != nil {
			return nil, fmt.Errorf("%s %s: %w", row.Method, row.Template, err)
		}
	}
	return c, nil
}

func (c *Catalog) addOperation(r record) error {
	row := &Row{
		Method:   r.get("method"),
		Template: r.get("path"),
		Name:     policy.OperationName(r.get("name")),
		Resource: policy.Resource(r.get("resource")),
		Release:  Release(r.get("release")),
		Default:  Verdict(r.get("default")),
		Host:     Host(r.get("host")),
		Object:   r.get("object"),
		Witness:  r.get("witness"),
	}
	var err error
	if row.Placeholders, err = placeholders(row.Template); err != nil {
		return err
	}
	switch r.get("access") {
	case "read":
		row.Access = policy.Read
	case "write":
		row.Access = policy.Write
	default:
		return fmt.Errorf("access %q is neither read nor write", r.get("access"))
	}
	for _, w := range []struct {
		what  string
		known bool
	}{
		{"method " + row.Method, slices.Contains([]string{"GET", "POST", "DELETE"}, row.Method)},
		{"release " + string(row.Release), slices.Contains([]Release{GA, Legacy, Preview}, row.Release)},
		{"default " + string(row.Default), slices.Contains([]Verdict{AllowByScope, DenyUnmetered, DenyCredential, DenyEgress, DenyBulk, DenyPreview}, row.Default)},
		{"host " + string(row.Host), slices.Contains([]Host{HostAPI, HostFiles, HostConnect, HostMeterEvents}, row.Host)},
		{"resource (none)", row.Resource != ""},
		{"witness (none)", row.Witness != ""},
	} {
		if !w.known {
			return fmt.Errorf("unknown %s", w.what)
		}
	}
	if (row.Release == Preview) != (row.Default == DenyPreview) {
		return fmt.Errorf("release %s and default %s do not go together", row.Release, row.Default)
	}
	key := row.Method + " " + row.Template
	if c.byCall[key] != nil {
		return fmt.Errorf("%s is there twice", key)
	}
	if old := c.byName[row.Name]; old != nil {
		return fmt.Errorf("the name %s is taken by %s %s", row.Name, old.Method, old.Template)
	}
	c.byCall[key], c.byName[row.Name] = row, row
	c.rows = append(c.rows, row)
	return nil
}

// row returns the operation that a line of another table is about.
func (c *Catalog) row(r record) (*Row, error) {
	key := r.get("method") + " " + r.get("path")
	row := c.byCall[key]
	if row == nil {
		return nil, fmt.Errorf("%s is not in operations.csv", key)
	}
	return row, nil
}

// Rows lists the operations in the order of the table. The rows must not be changed.
func (c *Catalog) Rows() []*Row { return slices.Clone(c.rows) }

// Operation returns the row of a name; nil if there is none.
func (c *Catalog) Operation(name policy.OperationName) *Row { return c.byName[name] }

// Preview returns the preview of a name; nil if there is none.
func (c *Catalog) Preview(name string) *PreviewRule { return c.previews[name] }
