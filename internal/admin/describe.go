package admin

import (
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/keybrake/keybrake/internal/vault"
)

// Description is where the API describes itself, as an OpenAPI 3.1 document. It needs no token: it says nothing about this
// server that its program does not say.
const Description = "/admin/openapi.json"

// about is what the description says of the whole.
const about = `What operators do to vault keys, upstreams, brakes, rates, tokens and each other, and what they see.

Errors are problem documents (RFC 9457); ` + "`errors`" + ` names each part of the request that is wrong. Listings are read page by page
with ` + "`limit` and `after`" + `. Creates take an Idempotency-Key. Edits take the ETag of what they are about as If-Match.`

// described are the settings of the API's description.
func described() huma.Config {
	c := huma.DefaultConfig("Keybrake admin API", "1")
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = strings.TrimSuffix(Description, ".json"), "", ""
	c.CreateHooks = nil // they would add a $schema field to every answer
	c.Transformers = append(c.Transformers, hideValues)
	c.Info.Description = about
	c.Servers = []*huma.Server{{URL: "/", Description: "this server"}}
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer", Description: "an operator's or a tool's token"}}
	c.Security = []map[string][]string{{"token": {}}}
	return c
}

// describes is what the description says of a route.
func describes(r route) huma.Operation {
	return huma.Operation{
		OperationID: r.id, Method: r.method, Path: prefix + r.path, Summary: r.summary, MaxBodyBytes: r.maxBody,
		Description: r.summary + ". " + letsIn(r.needs), Tags: []string{strings.Split(r.path, "/")[0]},
		Errors: []int{
			http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusRequestEntityTooLarge,
			http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusServiceUnavailable,
		},
	}
}

// letsIn says whom a route lets in.
func letsIn(right vault.Right) string {
	var in []string
	for _, role := range []vault.Role{vault.RoleAdmin, vault.RoleResponder, vault.RoleAuditor, vault.RoleStop} {
		if role.May(right) {
			in = append(in, role.String())
		}
	}
	return "Lets in: " + strings.Join(in, ", ") + "."
}

// edits adds what only edits answer.
func edits(op *huma.Operation) {
	op.Errors = append(op.Errors, http.StatusPreconditionFailed, http.StatusPreconditionRequired)
	slices.Sort(op.Errors)
}

// streamed describes an answer that is written piece by piece, in one of some forms.
func streamed(op *huma.Operation, forms ...string) {
	content := map[string]*huma.MediaType{}
	for _, form := range forms {
		content[form] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	}
	op.Responses = map[string]*huma.Response{"200": {Description: "OK", Content: content}}
}
