package secretstore

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/keybrake/keybrake/internal/secretstore"
	"github.com/keybrake/keybrake/internal/vault"
)

// upstream is the label under which the sources find an upstream's secret.
const upstream = "stripe-live"

// recipe is a documented sink and source of one vendor's command line: their names in docs/operating.md.
type recipe struct{ sink, source string }

// documented reads the places of docs/operating.md as they are printed there.
func documented(t *testing.T) (sinks, sources map[string]secretstore.Place) {
	t.Helper()
	text, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```yaml\n(sinks:.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatal("docs/operating.md describes no sinks")
	}
	var config struct{ Sinks, Sources []secretstore.Place }
	if err := yaml.UnmarshalWithOptions(block[1], &config, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	sinks, sources = map[string]secretstore.Place{}, map[string]secretstore.Place{}
	for _, p := range config.Sinks {
		sinks[p.Name] = p
	}
	for _, p := range config.Sources {
		sources[p.Name] = p
	}
	return sinks, sources
}

// program puts a vendor's program on the path, and nothing but it and the system's own. Where KEYBRAKE_RECIPES names the folder
// that scripts/recipes filled it must be there; else one that is installed will do, if it is the one that is meant.
func program(t *testing.T, name, version string, always ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if dir := os.Getenv("KEYBRAKE_RECIPES"); dir != "" {
		if path, err = exec.LookPath(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err != nil {
		t.Skipf("needs %s; `make recipes` brings it", name)
	}
	out, err := exec.Command(path, "--version").CombinedOutput()
	if !regexp.MustCompile(version).Match(out) {
		t.Skipf("%s is %s, %v; `make recipes` brings the one that is meant", path, out, err)
	}
	t.Logf("%s", out)
	bin := t.TempDir()
	script := "#!/bin/sh\nexec '" + path + "' " + strings.Join(always, " ") + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":/usr/local/bin:/usr/bin:/bin")
	t.Setenv("HOME", t.TempDir()) // no profile of whoever runs the tests
}

// try puts a key, rotates it, and reads another secret back. kept is what the service itself has under a name.
func (r recipe) try(t *testing.T, kept func(label string) (string, bool), put func(label, secret string)) {
	t.Helper()
	sinks, sources := documented(t)
	sink, err := secretstore.NewSink(sinks[r.sink])
	if err != nil {
		t.Fatal(err)
	}
	source, err := secretstore.NewSource(sources[r.source])
	if err != nil {
		t.Fatal(err)
	}
	if err := sink.Ready(t.Context(), label); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{first, second} {
		if err := sink.Put(t.Context(), label, vault.NewSecret(text), text == second); err != nil {
			t.Fatal(err)
		}
		if got, ok := kept(label); !ok || got != text {
			t.Errorf("the service keeps %q, %t", got, ok)
		}
	}
	if got, err := source.Get(t.Context(), upstream); err == nil {
		t.Errorf("there is nothing and it gives %v", got)
	}
	const secret = "rk_live_51SecretSecretSecret"
	put(upstream, secret)
	if got, err := source.Get(t.Context(), upstream); err != nil || got.Reveal() != secret {
		t.Errorf("it gives %q, %v", got.Reveal(), err)
	}
}

// secretsManager is AWS Secrets Manager as far as the recipes go: JSON 1.1, signed requests, a secret is created once.
type secretsManager struct {
	mu   sync.Mutex
	kept map[string]string
}

var awsName = regexp.MustCompile(`^[A-Za-z0-9/_+=.@-]{1,512}$`)

func (s *secretsManager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var in struct{ Name, SecretId, SecretString, ClientRequestToken string } // as AWS spells them
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		s.refuse(w, "SerializationException", err.Error())
		return
	}
	if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/") {
		s.refuse(w, "UnrecognizedClientException", "The security token included in the request is invalid.")
		return
	}
	action := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "secretsmanager.")
	name := in.SecretId
	if action == "CreateSecret" {
		name = in.Name
	}
	_, exists := s.kept[name]
	switch {
	case !awsName.MatchString(name):
		s.refuse(w, "ValidationException", "Invalid name.")
	case action == "CreateSecret" && exists:
		s.refuse(w, "ResourceExistsException", "The operation failed because the secret "+name+" already exists.")
	case action != "CreateSecret" && !exists:
		s.refuse(w, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
	case action == "CreateSecret", action == "PutSecretValue":
		if len(in.ClientRequestToken) < 32 || in.SecretString == "" {
			s.refuse(w, "InvalidRequestException", "You must provide a token and a value.")
			return
		}
		s.kept[name] = in.SecretString
		s.answer(w, map[string]any{"ARN": arn(name), "Name": name, "VersionId": in.ClientRequestToken})
	case action == "GetSecretValue":
		s.answer(w, map[string]any{"ARN": arn(name), "Name": name, "SecretString": s.kept[name], "VersionStages": []string{"AWSCURRENT"}})
	default:
		s.refuse(w, "UnknownOperationException", action)
	}
}

func arn(name string) string {
	return "arn:aws:secretsmanager:eu-central-1:123456789012:secret:" + name + "-AbCdEf"
}

func (s *secretsManager) answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_ = json.NewEncoder(w).Encode(body) // the client went away
}

func (s *secretsManager) refuse(w http.ResponseWriter, kind, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": kind, "Message": message}) // the client went away
}

func TestTheRecipeOfAWSWithItsOwnProgram(t *testing.T) {
	service := &secretsManager{kept: map[string]string{}}
	server := httptest.NewServer(service)
	t.Cleanup(server.Close)
	program(t, "aws", `^aws-cli/2\.`, "--endpoint-url", server.URL)
	home := os.Getenv("HOME")
	if err := os.Mkdir(filepath.Join(home, ".aws"), 0o700); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{
		"config":      "[profile agents]\nregion = eu-central-1\n[profile operators]\nregion = eu-central-1\n",
		"credentials": "[agents]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = x\n[operators]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = x\n",
	} {
		if err := os.WriteFile(filepath.Join(home, ".aws", file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	recipe{sink: "aws", source: "operators-aws"}.try(t, service.get, service.put)
	t.Run("a label that AWS has already is refused, and stays", func(t *testing.T) {
		sinks, _ := documented(t)
		sink, err := secretstore.NewSink(sinks["aws"])
		if err != nil {
			t.Fatal(err)
		}
		err = sink.Put(t.Context(), label, vault.NewSecret(first), false)
		if err == nil || !strings.Contains(err.Error(), "ResourceExistsException") || strings.Contains(err.Error(), first) {
			t.Errorf("it says %v", err)
		}
		if got, _ := service.get(label); got != second {
			t.Errorf("the service keeps %q", got)
		}
	})
}

func (s *secretsManager) get(label string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, ok := s.kept[label]
	return text, ok
}

func (s *secretsManager) put(label, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept[label] = secret
}

// dopplerAPI is Doppler's as far as the recipes go: secrets of one config of a project, by name.
type dopplerAPI struct {
	mu   sync.Mutex
	kept map[string]string // project/config/NAME
}

var dopplerName = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)

type dopplerSecret struct {
	Raw      *string `json:"raw"`
	Computed *string `json:"computed"`
}

func (d *dopplerAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	answer := func(status int, body any) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body) // the client went away
	}
	refuse := func(status int, message string) {
		answer(status, map[string]any{"success": false, "messages": []string{message}})
	}
	q := r.URL.Query()
	where := q.Get("project") + "/" + q.Get("config") + "/"
	secrets := map[string]dopplerSecret{}
	switch user, _, _ := r.BasicAuth(); {
	case user != "dp.st.canary" && r.Header.Get("Authorization") != "Bearer dp.st.canary":
		refuse(http.StatusUnauthorized, "Invalid Auth token")
		return
	case r.URL.Path != "/v3/configs/config/secrets" || where == "//":
		refuse(http.StatusNotFound, "Could not find requested config")
		return
	case r.Method == http.MethodPost:
		var in struct{ Secrets map[string]string }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			refuse(http.StatusBadRequest, err.Error())
			return
		}
		for name, value := range in.Secrets {
			if !dopplerName.MatchString(name) {
				refuse(http.StatusBadRequest, "Secret names must only contain uppercase letters, numbers, and underscores")
				return
			}
			d.kept[where+name] = value
			secrets[name] = dopplerSecret{Raw: &value, Computed: &value}
		}
	default:
		for _, name := range strings.Split(q.Get("secrets"), ",") {
			secrets[name] = dopplerSecret{}
			if value, ok := d.kept[where+name]; ok {
				secrets[name] = dopplerSecret{Raw: &value, Computed: &value}
			}
		}
	}
	answer(http.StatusOK, map[string]any{"success": true, "secrets": secrets})
}

func (d *dopplerAPI) name(project, config, label string) string {
	return fmt.Sprintf("%s/%s/%s", project, config, strings.ToUpper(strings.ReplaceAll(label, "-", "_")))
}

func TestTheRecipeOfDopplerWithItsOwnProgram(t *testing.T) {
	service := &dopplerAPI{kept: map[string]string{}}
	server := httptest.NewServer(service)
	t.Cleanup(server.Close)
	program(t, "doppler", `^(v3\.|dev)`)
	t.Setenv("DOPPLER_API_HOST", server.URL)
	t.Setenv("DOPPLER_TOKEN", "dp.st.canary")
	t.Setenv("DOPPLER_ENABLE_VERSION_CHECK", "false")
	recipe{sink: "doppler", source: "operators-doppler"}.try(t,
		func(label string) (string, bool) {
			service.mu.Lock()
			defer service.mu.Unlock()
			text, ok := service.kept[service.name("agents", "prd", label)]
			return text, ok
		},
		func(label, secret string) {
			service.mu.Lock()
			defer service.mu.Unlock()
			service.kept[service.name("operators", "prd", label)] = secret
		})
}

func TestTheRecipeOfVaultWithItsOwnProgram(t *testing.T) {
	server := newEngine(t)
	program(t, "vault", `^Vault v`)
	t.Setenv("VAULT_ADDR", server.URL)
	t.Setenv("VAULT_TOKEN", token)
	recipe{sink: "vault-cli", source: "operators-vault-cli"}.try(t,
		func(string) (string, bool) {
			n, secret := versions(t, server.URL)
			return secret, n > 0
		},
		func(label, secret string) {
			var answer any
			ask(t, server.URL, "data/upstreams/"+label, map[string]any{"data": map[string]string{"key": secret}}, &answer)
		})
	if n, _ := versions(t, server.URL); n != 2 {
		t.Errorf("a key and its rotation are %d versions", n)
	}
}
