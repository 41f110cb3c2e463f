package deploy

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"

	"github.com/keybrake/keybrake/test/binary"
)

// program is the built binary.
var program string

func TestMain(m *testing.M) { os.Exit(binary.Main(m, &program)) }

// manifests are the objects of a file, decoded into Kubernetes' own types: a field that is none is an error.
type manifests struct {
	accounts    []corev1.ServiceAccount
	configs     []corev1.ConfigMap
	deployments []appsv1.Deployment
	budgets     []policyv1.PodDisruptionBudget
	services    []corev1.Service
	policies    []networkingv1.NetworkPolicy
}

func readManifests(t *testing.T) (m manifests) {
	t.Helper()
	for _, doc := range bytes.Split(file(t, "kubernetes", "keybrake.yaml"), []byte("\n---\n")) {
		var kind struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(doc, &kind); err != nil {
			t.Fatal(err)
		}
		var err error
		switch kind.APIVersion + " " + kind.Kind {
		case "v1 ServiceAccount":
			m.accounts, err = decode(m.accounts, doc)
		case "v1 ConfigMap":
			m.configs, err = decode(m.configs, doc)
		case "apps/v1 Deployment":
			m.deployments, err = decode(m.deployments, doc)
		case "policy/v1 PodDisruptionBudget":
			m.budgets, err = decode(m.budgets, doc)
		case "v1 Service":
			m.services, err = decode(m.services, doc)
		case "networking.k8s.io/v1 NetworkPolicy":
			m.policies, err = decode(m.policies, doc)
		default:
			t.Errorf("nobody looks at a %s of %s", kind.Kind, kind.APIVersion)
		}
		if err != nil {
			t.Errorf("%s: %v", kind.Kind, err)
		}
	}
	if len(m.accounts) != 1 || len(m.configs) != 1 || len(m.deployments) != 1 || len(m.budgets) != 1 || len(m.services) != 2 || len(m.policies) != 1 {
		t.Fatalf("something is missing: %d service accounts, %d config maps, %d deployments, %d budgets, %d services, %d network policies",
			len(m.accounts), len(m.configs), len(m.deployments), len(m.budgets), len(m.services), len(m.policies))
	}
	return m
}

func decode[T any](into []T, doc []byte) ([]T, error) {
	var v T
	err := yaml.UnmarshalStrict(doc, &v)
	return append(into, v), err
}

func TestTheManifestsFitTogether(t *testing.T) {
	m := readManifests(t)
	d := m.deployments[0].Spec
	pod := d.Template.Labels
	covers := func(selector map[string]string) bool {
		for k, v := range selector {
			if pod[k] != v {
				return false
			}
		}
		return len(selector) > 0
	}
	for what, selector := range map[string]map[string]string{
		"the deployment": d.Selector.MatchLabels, "the budget": m.budgets[0].Spec.Selector.MatchLabels, "the network policy": m.policies[0].Spec.PodSelector.MatchLabels,
		"the agents' service": m.services[0].Spec.Selector, "the operators' service": m.services[1].Spec.Selector,
	} {
		if !covers(selector) {
			t.Errorf("%s selects %v, the pods are %v", what, selector, pod)
		}
	}
	if least := m.budgets[0].Spec.MinAvailable.IntValue(); least < 1 || least >= int(*d.Replicas) {
		t.Errorf("%d of %d gateways must be available: none or every one may be taken down at once", least, *d.Replicas)
	}
	if d.Strategy.RollingUpdate.MaxUnavailable.IntValue() != 0 {
		t.Error("a rolling update takes an old gateway away before a new one is ready")
	}
	c := d.Template.Spec.Containers[0]
	ports := map[string]bool{}
	for _, p := range c.Ports {
		ports[p.Name] = true
	}
	for _, s := range m.services {
		if !ports[s.Spec.Ports[0].TargetPort.String()] {
			t.Errorf("service %s sends to a port %q that the container does not have", s.Name, s.Spec.Ports[0].TargetPort.String())
		}
	}
	mounted := map[string]bool{}
	for _, v := range d.Template.Spec.Volumes {
		mounted[v.Name] = true
	}
	for _, v := range c.VolumeMounts {
		if !mounted[v.Name] {
			t.Errorf("mount %s has no volume", v.Name)
		}
	}
	if ready, alive := c.ReadinessProbe.HTTPGet.Path, c.LivenessProbe.HTTPGet.Path; ready != "/readyz" || alive != "/healthz" {
		t.Errorf("ready by %s, alive by %s: a gateway without its store must be taken out, not killed", ready, alive)
	}
	for _, kind := range []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress} {
		if !slices.Contains(m.policies[0].Spec.PolicyTypes, kind) {
			t.Errorf("the network policy leaves %s open", kind)
		}
	}
}

func TestThePodsHaveNoMoreRightsThanTheyNeed(t *testing.T) {
	pod := readManifests(t).deployments[0].Spec.Template.Spec
	c := pod.Containers[0].SecurityContext
	switch {
	case !*pod.SecurityContext.RunAsNonRoot, *pod.SecurityContext.RunAsUser == 0:
		t.Error("it runs as root")
	case *c.AllowPrivilegeEscalation, !*c.ReadOnlyRootFilesystem, !slices.Equal(c.Capabilities.Drop, []corev1.Capability{"ALL"}):
		t.Error("the container has more than it needs")
	case *pod.AutomountServiceAccountToken:
		t.Error("it has a token of the cluster, which it never uses")
	}
	for _, v := range pod.Volumes {
		if s := v.Secret; s != nil && *s.DefaultMode&0o007 != 0 {
			t.Errorf("volume %s can be read by everybody: %o", v.Name, *s.DefaultMode)
		}
	}
}

// The settings in the manifests are the program's own: it reads them, and they leave a stop the time that it needs.
func TestTheProgramTakesTheSettingsOfTheManifests(t *testing.T) {
	m := readManifests(t)
	d := m.deployments[0].Spec.Template.Spec
	config := m.configs[0].Data["keybrake.yaml"]
	var settings struct {
		Drain int `json:"drain_timeout"`
	}
	if err := yaml.Unmarshal([]byte(config), &settings); err != nil {
		t.Fatal(err)
	}
	const givenUp = 5
	if need := int64(settings.Drain) + givenUp + d.Containers[0].Lifecycle.PreStop.Sleep.Seconds; *d.TerminationGracePeriodSeconds <= need {
		t.Errorf("a stop may take %d s and gets %d s", need, *d.TerminationGracePeriodSeconds)
	}
	// A program that reads all of it fails at the first file that is not there, and at no setting.
	dir := t.TempDir()
	path := filepath.Join(dir, "keybrake.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	serve := exec.CommandContext(t.Context(), program, "serve", "--config", path)
	serve.Env = append(os.Environ(), "KEYBRAKE_STORE=sqlite:"+filepath.Join(dir, "k.db"), "KEYBRAKE_NODE=pod-1")
	out, err := serve.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "/secret/master.key") {
		t.Errorf("serve said: %s", out)
	}
}
