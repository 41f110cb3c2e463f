package secretstore

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/keybrake/keybrake/internal/vault"
)

// documented reads the places of docs/operating.md as they are printed there.
func documented(t *testing.T) (sinks, sources map[string]Place) {
	t.Helper()
	text, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```yaml\n(sinks:.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatal("docs/operating.md describes no sinks")
	}
	var config struct{ Sinks, Sources []Place }
	if err := yaml.UnmarshalWithOptions(block[1], &config, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	if err := Check(config.Sinks, config.Sources); err != nil {
		t.Fatal(err)
	}
	sinks, sources = map[string]Place{}, map[string]Place{}
	for _, p := range config.Sinks {
		sinks[p.Name] = p
	}
	for _, p := range config.Sources {
		sources[p.Name] = p
	}
	return sinks, sources
}

const (
	someLabel = "agent-support-refunds-runner42"
	first     = "vault_key_test_FirstFirstFirstFirstFirst"
	second    = "vault_key_test_SecondSecondSecondSecond"
)

func TestTheDocumentedSinksTakeKeysAndTheirRotations(t *testing.T) {
	service := programs(t)
	places, _ := documented(t)
	for name, where := range map[string]string{
		"onepassword": "Agents/" + someLabel, "aws": someLabel, "vault-cli": "secret/keybrake/" + someLabel,
		"doppler": "agents/prd/AGENT_SUPPORT_REFUNDS_RUNNER42",
	} {
		t.Run(name, func(t *testing.T) {
			place, ok := places[name]
			if !ok {
				t.Fatal("it is not documented")
			}
			sink, err := NewSink(place)
			if err != nil {
				t.Fatal(err)
			}
			if err := sink.Ready(t.Context(), someLabel); err != nil {
				t.Fatal(err)
			}
			for _, secret := range []string{first, second} {
				if err := sink.Put(t.Context(), someLabel, vault.NewSecret(secret), secret == second); err != nil {
					t.Fatal(err)
				}
				if got, err := os.ReadFile(filepath.Join(service, strings.ReplaceAll(where, "/", "%"))); string(got) != secret {
					t.Fatalf("under %s lies %q, %v", where, got, err)
				}
			}
		})
	}
	for name := range places {
		if kind := places[name].Kind; kind == "command" && !strings.Contains("onepassword aws vault-cli doppler", name) {
			t.Errorf("the recipe %s is not tested", name)
		}
	}
}

func TestTheDocumentedSourcesGiveSecrets(t *testing.T) {
	service := programs(t)
	_, places := documented(t)
	const secret = "rk_live_51SecretSecretSecret"
	for name, where := range map[string]string{
		"operators-op": "Operators/stripe-live", "operators-aws": "stripe-live", "operators-vault-cli": "secret/upstreams/stripe-live",
		"operators-doppler": "operators/prd/STRIPE_LIVE",
	} {
		t.Run(name, func(t *testing.T) {
			source, err := NewSource(places[name])
			if err != nil {
				t.Fatal(err)
			}
			if got, err := source.Get(t.Context(), "stripe-live"); err == nil {
				t.Errorf("there is nothing and it gives %v", got)
			}
			if err := os.WriteFile(filepath.Join(service, strings.ReplaceAll(where, "/", "%")), []byte(secret), 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := source.Get(t.Context(), "stripe-live"); err != nil || got.Reveal() != secret {
				t.Errorf("%q, %v", got.Reveal(), err)
			}
		})
	}
}
