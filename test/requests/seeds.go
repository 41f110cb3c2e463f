package requests

import (
	"fmt"
	"strings"

	"github.com/keybrake/keybrake/test/openapi"
)

// Limits of a seed: with every parameter of the larger operations the file would be twice as large.
const (
	seedForm = 1200 // bytes
	seedEach = 3    // values below one parameter
)

// SeedFile is where the seeds are, below internal/upstream/stripe.
const SeedFile = "testdata/requests.txt"

// Seeds writes a request of every operation and variant, one a line: method, path and form, if it has parameters. They are what the
// fuzz target for calls starts from. What can be expanded is expanded; uploads, which are no forms, are left out.
func Seeds(d *openapi.Document) string {
	var out strings.Builder
	fmt.Fprintf(&out, "# gentables: seeds for FuzzCall, from the OpenAPI document %s. Generated: do not edit.\n", d.Info.Version)
	d.Each(func(method, path string, op *openapi.Operation) {
		seen := map[string]bool{}
		for _, v := range Variants {
			r := Make(method, path, op, v)
			if r.Multipart {
				continue
			}
			if paths := Expansions(d, op); len(paths) > 0 && v == Required {
				r.Params = append(r.Params, Pair{"expand[0]", paths[len(paths)-1]})
			}
			r.Params = shortened(r.Params)
			if line := strings.TrimSpace(r.Method + " " + r.Path + " " + r.Form()); !seen[line] {
				seen[line] = true
				out.WriteString(line + "\n")
			}
		}
	})
	return out.String()
}

// shortened keeps the first values of each parameter, which are whole: elements come in order.
func shortened(all []Pair) []Pair {
	var out []Pair
	values, size := map[string]int{}, 0
	for _, p := range all {
		name, _, _ := strings.Cut(p.Name, "[")
		cost := len((&Request{Params: []Pair{p}}).Form())
		if values[name]++; values[name] > seedEach || size+cost > seedForm {
			values[name] = seedEach // nor any that comes after it
			continue
		}
		size += cost + 1
		out = append(out, p)
	}
	return out
}
