package secretstore

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/keybrake/keybrake/internal/vault"
)

// engine is as much of a Vault as is asked here, as its API documentation has it: a KV engine of version 2 at "kv", in the
// namespace "agents", whose secrets have versions and are written with check-and-set.
type engine struct {
	*httptest.Server
	mu      sync.Mutex
	secrets map[string][]map[string]any
	read    bool   // the token may read metadata
	between func() // runs after each look at the metadata
}

const kvToken = "hvs.canarycanarycanary"

func newEngine(t *testing.T) *engine {
	e := &engine{secrets: map[string][]map[string]any{}, read: true}
	e.Server = httptest.NewServer(e)
	t.Cleanup(e.Close)
	t.Setenv("BAO_TOKEN", kvToken)
	return e
}

func (e *engine) refuse(w http.ResponseWriter, status int, says ...string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": append([]string{}, says...)})
}

func (e *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	part, path, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/kv/"), "/")
	switch {
	case r.Header.Get("X-Vault-Token") != kvToken || r.Header.Get("X-Vault-Namespace") != "agents":
		e.refuse(w, 403, "permission denied")
	case !strings.HasPrefix(r.URL.Path, "/v1/kv/") || !ok:
		e.refuse(w, 404, `no handler for route "`+r.URL.Path+`". route entry not found.`)
	case part == "metadata" && r.Method == http.MethodGet && !e.read:
		e.refuse(w, 403, "1 error occurred:\n\t* permission denied\n\n")
	case r.Method == http.MethodGet && len(e.secrets[path]) == 0:
		e.refuse(w, 404)
	case part == "metadata" && r.Method == http.MethodGet:
		_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"current_version": len(e.secrets[path])}})
	case part == "data" && r.Method == http.MethodGet:
		versions := e.secrets[path]
		_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"data": versions[len(versions)-1]}})
	case part == "data" && r.Method == http.MethodPost:
		e.write(w, r, path)
	default:
		e.refuse(w, 405)
	}
	if part == "metadata" && e.between != nil {
		e.between()
	}
}

func (e *engine) write(w http.ResponseWriter, r *http.Request, path string) {
	var in struct {
		Options struct {
			CAS *int `json:"cas"`
		} `json:"options"`
		Data map[string]any `json:"data"`
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	switch err := d.Decode(&in); {
	case err != nil:
		e.refuse(w, 400, err.Error())
	case in.Options.CAS == nil:
		e.refuse(w, 400, "check-and-set parameter required for this call")
	case *in.Options.CAS != len(e.secrets[path]):
		e.refuse(w, 400, "check-and-set parameter did not match the current version")
	default:
		e.secrets[path] = append(e.secrets[path], in.Data)
		_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"version": len(e.secrets[path])}})
	}
}

func (e *engine) place() Place {
	return Place{Name: "bao", Kind: "vault", Address: e.URL, Namespace: "agents", Mount: "kv", Path: "keybrake/{label}", TokenEnv: "BAO_TOKEN"}
}

func TestAKVEngineKeepsTheVersionsOfALabel(t *testing.T) {
	e := newEngine(t)
	sink, err := NewSink(e.place())
	must(t, err)
	must(t, sink.Ready(t.Context(), someLabel))
	must(t, sink.Put(t.Context(), someLabel, vault.NewSecret(first), false))
	must(t, sink.Put(t.Context(), someLabel, vault.NewSecret(second), true))
	versions := e.secrets["keybrake/"+someLabel]
	if len(versions) != 2 || versions[0]["key"] != first || versions[1]["key"] != second || len(versions[1]) != 1 {
		t.Fatalf("%v", e.secrets)
	}
	p := e.place()
	p.TokenEnv, p.TokenFile = "", filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(p.TokenFile, []byte(kvToken+"\n"), 0o600))
	source, err := NewSource(p)
	must(t, err)
	if got, err := source.Get(t.Context(), someLabel); err != nil || got.Reveal() != second {
		t.Errorf("%q, %v", got.Reveal(), err)
	}
}

func TestAKVEngineThatRefusesIsToldWithoutTheSecret(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*testing.T, *engine, *Place)
		says   string
	}{
		"another token":     {func(t *testing.T, _ *engine, _ *Place) { t.Setenv("BAO_TOKEN", "hvs.other") }, "status 403: permission denied (the token needs"},
		"no token":          {func(t *testing.T, _ *engine, _ *Place) { t.Setenv("BAO_TOKEN", "") }, "BAO_TOKEN is empty"},
		"no mount":          {func(_ *testing.T, _ *engine, p *Place) { p.Mount = "secret" }, "route entry not found"},
		"another namespace": {func(_ *testing.T, _ *engine, p *Place) { p.Namespace = "" }, "status 403"},
		"no right to look":  {func(_ *testing.T, e *engine, _ *Place) { e.read = false }, "read on .../metadata"},
		"nobody there":      {func(_ *testing.T, e *engine, _ *Place) { e.Close() }, "refused"},
		"somebody else wrote at the same time": {func(_ *testing.T, e *engine, _ *Place) {
			e.between = func() {
				e.secrets["keybrake/"+someLabel] = append(e.secrets["keybrake/"+someLabel], map[string]any{"key": "another"})
			}
		}, "did not match the current version"},
		"another server that sends elsewhere": {func(t *testing.T, e *engine, p *Place) {
			standby := httptest.NewServer(http.RedirectHandler(e.URL, http.StatusTemporaryRedirect))
			t.Cleanup(standby.Close)
			p.Address = standby.URL
		}, "active node"},
		"no vault at all": {func(t *testing.T, _ *engine, p *Place) {
			other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }))
			t.Cleanup(other.Close)
			p.Address = other.URL
		}, "not a KV engine's"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t)
			place := e.place()
			c.change(t, e, &place)
			sink, err := NewSink(place)
			must(t, err)
			err = sink.Put(t.Context(), someLabel, vault.NewSecret(first), false)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatal(err)
			}
			if strings.Contains(err.Error(), first) || strings.Contains(err.Error(), kvToken) {
				t.Errorf("a secret is in the message: %v", err)
			}
		})
	}
}

func TestALabelOfAKVEngineLeadsNowhereElse(t *testing.T) {
	e := newEngine(t)
	sink, err := NewSink(e.place())
	must(t, err)
	for _, label := range []string{"../other", "a/../../other", "..", "a//b"} {
		if err := sink.Put(t.Context(), label, vault.NewSecret(first), false); err == nil {
			t.Errorf("%q was taken", label)
		}
	}
	must(t, sink.Put(t.Context(), "team/agent@x:1", vault.NewSecret(first), false))
	if len(e.secrets) != 1 || len(e.secrets["keybrake/team/agent@x:1"]) != 1 {
		t.Errorf("%v", e.secrets)
	}
}

func TestOfAKVSecretOneFieldIsRead(t *testing.T) {
	e := newEngine(t)
	e.secrets["keybrake/x"] = []map[string]any{{"other": "a", "key": 7}}
	source, err := NewSource(e.place())
	must(t, err)
	if got, err := source.Get(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), `field "key"`) {
		t.Errorf("%q, %v", got.Reveal(), err)
	}
}
