// Package secretstore holds the sink and the source of the kind vault against the KV engine of HashiCorp's Vault itself.
package secretstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/keybrake/keybrake/internal/secretstore"
	"github.com/keybrake/keybrake/internal/vault"
)

const (
	token  = "hvs.canarycanarycanary"
	label  = "agent-support-refunds-runner42"
	first  = "vault_key_test_FirstFirstFirstFirstFirst"
	second = "vault_key_test_SecondSecondSecondSecond"
)

// engine is Vault's KV engine, version 2, in memory, mounted at "secret". What stands around it in a Vault is here in its
// shortest form: a token, the mount, and the way between HTTP and the engine's requests and answers.
type engine struct {
	logical.Backend
	storage *logical.InmemStorage
}

func newEngine(t *testing.T) *httptest.Server {
	t.Helper()
	e := &engine{storage: &logical.InmemStorage{}}
	var err error
	if e.Backend, err = kv.Factory(t.Context(), &logical.BackendConfig{
		StorageView: e.storage, System: logical.TestSystemView(), Config: map[string]string{"version": "2"}, BackendUUID: "test",
	}); err != nil {
		t.Fatal(err)
	}
	if err := e.Initialize(t.Context(), &logical.InitializationRequest{Storage: e.storage}); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	t.Setenv("BAO_TOKEN", token)
	return server
}

func (e *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, mounted := strings.CutPrefix(r.URL.Path, "/v1/secret/")
	switch {
	case r.Header.Get("X-Vault-Token") != token:
		logical.RespondError(w, http.StatusForbidden, logical.ErrPermissionDenied)
		return
	case strings.TrimSuffix(r.URL.Path, "/") == "/v1/sys/internal/ui/mounts/secret": // Vault's own program asks for the version first
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"path": "secret/", "type": "kv", "options": map[string]string{"version": "2"}}}) // the client went away
		return
	case !mounted:
		logical.RespondError(w, http.StatusNotFound, errors.New("no handler for route"))
		return
	}
	req := &logical.Request{Operation: logical.ReadOperation, Path: path, Storage: e.storage}
	if r.Method != http.MethodGet {
		req.Operation = logical.UpdateOperation
		if err := json.NewDecoder(r.Body).Decode(&req.Data); err != nil {
			logical.RespondError(w, http.StatusBadRequest, err)
			return
		}
		if checked, exists, err := e.HandleExistenceCheck(r.Context(), req); err != nil {
			logical.RespondError(w, http.StatusInternalServerError, err)
			return
		} else if checked && !exists {
			req.Operation = logical.CreateOperation
		}
	}
	resp, err := e.HandleRequest(r.Context(), req)
	if status, err := logical.RespondErrorCommon(req, resp, err); status != 0 || err != nil {
		logical.RespondError(w, max(status, http.StatusBadRequest), err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"data": resp.Data}) // the client went away
}

func place(address string) secretstore.Place {
	return secretstore.Place{Name: "vault", Kind: "vault", Address: address, Path: "keybrake/{label}", TokenEnv: "BAO_TOKEN"}
}

func open(t *testing.T, address string) (*secretstore.Sink, *secretstore.Source) {
	t.Helper()
	sink, err := secretstore.NewSink(place(address))
	if err != nil {
		t.Fatal(err)
	}
	source, err := secretstore.NewSource(place(address))
	if err != nil {
		t.Fatal(err)
	}
	return sink, source
}

// ask asks the engine itself, or tells it something.
func ask(t *testing.T, address, path string, in, out any) {
	t.Helper()
	method, body := http.MethodGet, []byte(nil)
	if in != nil {
		method = http.MethodPost
		var err error
		if body, err = json.Marshal(in); err != nil {
			t.Fatal(err)
		}
	}
	req, err := http.NewRequest(method, address+"/v1/secret/"+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		t.Fatal(err)
	}
}

// versions asks the engine itself what it has.
func versions(t *testing.T, address string) (current int, secret string) {
	t.Helper()
	var metadata struct {
		Data struct {
			Current int `json:"current_version"`
		} `json:"data"`
	}
	var data struct {
		Data struct {
			Data map[string]string `json:"data"`
		} `json:"data"`
	}
	ask(t, address, "metadata/keybrake/"+label, nil, &metadata)
	ask(t, address, "data/keybrake/"+label, nil, &data)
	return metadata.Data.Current, data.Data.Data["key"]
}

func TestVaultsOwnEngineKeepsTheVersionsOfALabel(t *testing.T) {
	server := newEngine(t)
	sink, source := open(t, server.URL)
	if err := sink.Ready(t.Context(), label); err != nil {
		t.Fatal(err)
	}
	if got, err := source.Get(t.Context(), label); err == nil {
		t.Errorf("there is nothing and it gives %v", got)
	}
	for i, text := range []string{first, second} {
		if err := sink.Put(t.Context(), label, vault.NewSecret(text), i > 0); err != nil {
			t.Fatal(err)
		}
		if n, secret := versions(t, server.URL); n != i+1 || secret != text {
			t.Errorf("version %d is %q", n, secret)
		}
		if got, err := source.Get(t.Context(), label); err != nil || got.Reveal() != text {
			t.Errorf("%q, %v", got.Reveal(), err)
		}
	}
}

// A label that was deleted keeps its versions, and the next write goes on behind them.
func TestVaultsOwnEngineTakesALabelThatWasDeleted(t *testing.T) {
	server := newEngine(t)
	sink, source := open(t, server.URL)
	if err := sink.Put(t.Context(), label, vault.NewSecret(first), false); err != nil {
		t.Fatal(err)
	}
	e, ok := server.Config.Handler.(*engine)
	if !ok {
		t.Fatal("the server serves something else")
	}
	if _, err := e.HandleRequest(t.Context(), &logical.Request{Operation: logical.DeleteOperation, Path: "data/keybrake/" + label, Storage: e.storage}); err != nil {
		t.Fatal(err)
	}
	if got, err := source.Get(t.Context(), label); err == nil {
		t.Errorf("it was deleted and gives %v", got)
	}
	if err := sink.Put(t.Context(), label, vault.NewSecret(second), false); err != nil {
		t.Fatal(err)
	}
	if n, secret := versions(t, server.URL); n != 2 || secret != second {
		t.Errorf("version %d is %q", n, secret)
	}
}

// Between the look at the version and the write somebody else writes: the engine refuses, and theirs stays.
func TestVaultsOwnEngineRefusesAWriteOverAnother(t *testing.T) {
	server := newEngine(t)
	inside := server.Config.Handler
	other, _ := open(t, server.URL)
	between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inside.ServeHTTP(w, r)
		if strings.Contains(r.URL.Path, "/metadata/") {
			if err := other.Put(t.Context(), label, vault.NewSecret(second), false); err != nil {
				t.Error(err)
			}
		}
	}))
	t.Cleanup(between.Close)
	sink, _ := open(t, between.URL)
	if err := sink.Put(t.Context(), label, vault.NewSecret(first), false); err == nil || !strings.Contains(err.Error(), "did not match the current version") {
		t.Error(err)
	}
	if n, secret := versions(t, server.URL); n != 1 || secret != second {
		t.Errorf("version %d is %q", n, secret)
	}
}
