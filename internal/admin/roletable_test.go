package admin

import (
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/vault"
)

// rolesInDocs reads the table of docs/api.md: "METHOD /path" to what it says of each role. Refused is `no`; anything else
// is let in, and judged further where the word says so.
func rolesInDocs(t *testing.T) map[string]map[vault.Role]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "### Who may call what\n")
	if !found {
		t.Fatal("docs/api.md has no section “Who may call what”")
	}
	table, _, _ = strings.Cut(table, "\n#")
	out := map[string]map[vault.Role]string{}
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 5 || !strings.Contains(cells[0], "`/admin/v1/") && !strings.Contains(cells[0], " /admin/v1/") {
			continue
		}
		for i := range cells {
			cells[i] = strings.Trim(strings.TrimSpace(cells[i]), "`")
		}
		if _, twice := out[cells[0]]; twice {
			t.Errorf("%s is there twice", cells[0])
		}
		out[cells[0]] = map[vault.Role]string{vault.RoleAdmin: cells[1], vault.RoleResponder: cells[2], vault.RoleAuditor: cells[3], vault.RoleStop: cells[4]}
	}
	return out
}

func TestEveryRouteTakesTheRolesThatTheDocumentationSays(t *testing.T) {
	w := newWorld(t)
	tokens := map[vault.Role]string{}
	for _, role := range []vault.Role{vault.RoleAdmin, vault.RoleResponder, vault.RoleAuditor} {
		w.operator(t, "the-"+role.String(), role)
		_, tokens[role] = w.token(t, TokenRequest{Name: role.String(), Operator: "the-" + role.String()})
	}
	_, tokens[vault.RoleStop] = w.token(t, TokenRequest{Name: "pager", Role: "stop"})
	w.operator(t, "gone", vault.RoleAdmin)
	_, disabled := w.token(t, TokenRequest{Name: "gone", Operator: "gone"})
	yes := true
	if _, err := w.client.UpdateOperator(t.Context(), "gone", OperatorUpdate{Disabled: &yes}); err != nil {
		t.Fatal(err)
	}
	documented := rolesInDocs(t)
	routes := operations(t, w)
	for route := range documented {
		if !slices.Contains(routes, route) {
			t.Errorf("docs/api.md names %s, which is no route", route)
		}
	}
	before := len(w.records(t))
	for _, route := range routes {
		says, ok := documented[route]
		if !ok {
			t.Errorf("docs/api.md, “Who may call what”, lacks %s", route)
			continue
		}
		for role, token := range tokens {
			if !slices.Contains([]string{"yes", "no", "own", "lowering", "own stops"}, says[role]) {
				t.Errorf("%s: the table says %q of %s", route, says[role], role)
			}
			status := w.knocks(t, route, token)
			if in := status != http.StatusForbidden && status != http.StatusUnauthorized; in != (says[role] != "no") {
				t.Errorf("%s with the role %s: %d, and the table says %q", route, role, status, says[role])
			}
		}
		for who, token := range map[string]string{"nobody": "", "a disabled operator": disabled} {
			if status := w.knocks(t, route, token); status != http.StatusUnauthorized && status != http.StatusTooManyRequests {
				t.Errorf("%s by %s: %d", route, who, status)
			}
		}
	}
	if now := len(w.records(t)); now != before {
		t.Errorf("knocking left %d records", now-before)
	}
}

// knocks asks for a route about something that does not exist, and tells how it is answered.
func (w *world) knocks(t *testing.T, route, token string) int {
	t.Helper()
	method, path, _ := strings.Cut(route, " ")
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if strings.HasPrefix(part, "{") {
			parts[i] = "nobody"
		}
	}
	body := ""
	if method != http.MethodGet {
		body = "{}"
	}
	r, err := http.NewRequestWithContext(t.Context(), method, w.server.URL+strings.Join(parts, "/")+"?key=nobody", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if strings.HasSuffix(path, "/import") {
		r.Header.Set("Content-Type", "text/csv")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}
