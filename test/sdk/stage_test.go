package sdk

import (
	"database/sql"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the driver
)

// stage is a server for one SDK, with everything that the cases need.
type stage struct {
	*dev
	sdk       sdk
	promised  promises
	call      func(ask) *raised
	customers []seeded
	ids       *strings.Replacer
	// expiring ends some seconds after the start.
	expiring vaultKey
	keys     int // made so far
}

// scene is one case on it, with a vault key of its own.
type scene struct {
	*stage
	key   vaultKey
	going sync.WaitGroup // calls beside the one of the case
}

// vaultKey is a key as its one answer shows it.
type vaultKey struct{ ID, Name, Key string }

// The upstreams of a stage beside the sandbox with all rights.
const (
	demoUpstream   = "stripe-sandbox"
	goneUpstream   = "stripe-gone"   // nobody listens there
	narrowUpstream = "stripe-narrow" // its secret may read charges only
	blindUpstream  = "stripe-blind"  // its secret may read no charge
)

// lookupBurst is how many look-ups a key has at once; the stage gives it no more afterwards.
const lookupBurst = 100

func newStage(t *testing.T, s sdk, promised promises) *stage {
	t.Helper()
	d := serveDev(t, "--lookups-per-second", "0.001")
	st := &stage{dev: d, sdk: s, promised: promised, call: s.start(t), customers: d.seeded()}
	own, other := st.customers[0], st.customers[2]
	st.ids = strings.NewReplacer("{customer}", own.ID, "{own}", own.Charges[1], "{other}", other.ID, "{foreign}", other.Charges[0], "{unseen}", st.customers[1].Charges[1])
	soon := time.Now().Add(10 * time.Second).UTC().Format(time.RFC3339)
	st.expiring = st.newKey(anyCustomer+"expires: "+soon+"\n", "")
	d.sandbox("POST", "keys", `{"key":"rk_test_narrow","permissions":{"charges":"read"}}`, nil)
	d.sandbox("POST", "keys", `{"key":"rk_test_blind","permissions":{"balance":"read"}}`, nil)
	for name, u := range map[string][2]string{
		goneUpstream:   {"rk_test_gone", "http://" + nobody},
		narrowUpstream: {"rk_test_narrow", d.ready.Sandbox},
		blindUpstream:  {"rk_test_blind", d.ready.Sandbox},
	} {
		d.admin("POST", "upstreams", map[string]string{"name": name, "secret": u[0], "base_url": u[1]}, nil)
	}
	return st
}

// nobody is an address at which nobody listens: a port that was free a moment ago may be somebody else's by now.
const nobody = "127.0.0.1:1"

// newKey makes a vault key; an empty policy is anyCustomer's, an empty upstream the sandbox.
func (st *stage) newKey(policy, upstream string) (k vaultKey) {
	st.dev.t.Helper()
	if policy == "" {
		policy = anyCustomer
	}
	if upstream == "" {
		upstream = demoUpstream
	}
	st.keys++
	st.admin("POST", "keys", map[string]string{
		"name": "agent-sdk-denials-" + strconv.Itoa(st.keys), "upstream": upstream, "policy": st.ids.Replace(policy), "policy_file": "case.yaml",
	}, &k)
	return k
}

// update gives the scene's key another policy.
func (s *scene) update(policy string) {
	s.dev.t.Helper()
	s.admin("PATCH", "keys/"+s.key.ID, map[string]string{"policy": "name: " + s.key.Name + "\n" + s.ids.Replace(policy), "reason": "the cure"}, nil)
}

// fault breaks the sandbox on purpose, until the case is over at the latest.
func (s *scene) fault(kind string) {
	s.dev.t.Helper()
	s.sandbox("POST", "faults", kind, nil)
	s.dev.t.Cleanup(func() {
		s.mend()
		s.going.Wait()
	})
}

// mend ends all faults; what hangs goes on.
func (s *scene) mend() { s.sandbox("DELETE", "faults", "", nil) }

// post sends a write past the SDK and its counter, with the scene's key: what came before the call of the case. It may
// be called beside the test, so it ends nothing; without an answer the status is 0.
func (s *scene) post(path, idempotencyKey string, params map[string]string) (status int, body string) {
	s.dev.t.Helper()
	form := make(url.Values)
	for name, value := range params {
		form.Set(name, s.ids.Replace(value))
	}
	req, err := http.NewRequest(http.MethodPost, s.ready.Gateway+path, strings.NewReader(form.Encode()))
	if err != nil {
		s.dev.t.Error(err)
		return 0, ""
	}
	req.Header.Set("Authorization", "Bearer "+s.key.Key)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if idempotencyKey != "" {
		req.Header.Set("Idempotency-Key", idempotencyKey)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.dev.t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.dev.t.Error(err)
		return 0, ""
	}
	return resp.StatusCode, string(text)
}

// mustPost is post with the status that it has to get.
func (s *scene) mustPost(status int, path, idempotencyKey string, params map[string]string) {
	s.dev.t.Helper()
	if got, body := s.post(path, idempotencyKey, params); got != status {
		s.dev.t.Fatalf("%s: %d %s", path, got, body)
	}
}

// alongside sends a write that has to succeed and goes on while the call of the case is made.
func (s *scene) alongside(path, idempotencyKey string, params map[string]string) {
	s.going.Go(func() {
		if status, body := s.post(path, idempotencyKey, params); status != http.StatusOK {
			s.dev.t.Errorf("%s: %d %s", path, status, body)
		}
	})
}

// newProduct makes a product that nothing refers to.
func (s *scene) newProduct() string {
	s.dev.t.Helper()
	status, body := s.post("/v1/products", "", map[string]string{"name": "shirt"})
	var product struct{ ID string }
	if err := json.Unmarshal([]byte(body), &product); err != nil || status != 200 {
		s.dev.t.Fatalf("%d %s", status, body)
	}
	return product.ID
}

// hanging waits until a call hangs in the sandbox.
func (s *scene) hanging() {
	s.dev.t.Helper()
	for {
		var health struct{ Hanging int }
		if s.sandbox("GET", "healthz", "", &health); health.Hanging > 0 {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// breakStore makes the server's store refuse every record, as a disk that has no space; mendStore ends that.
func (s *scene) breakStore() {
	s.dev.t.Helper()
	s.inStore(`CREATE TRIGGER no_space BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no space'); END`)
	s.dev.t.Cleanup(s.mendStore)
}

func (s *scene) mendStore() { s.inStore(`DROP TRIGGER IF EXISTS no_space`) }

func (s *scene) inStore(statement string) {
	s.dev.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, "keybrake-dev-*", "keybrake.db"))
	if err != nil || len(files) != 1 {
		s.dev.t.Fatalf("the store is not where it was: %v %v", files, err)
	}
	db, err := sql.Open("sqlite", "file:"+files[0]+"?_pragma=busy_timeout(5000)")
	if err != nil {
		s.dev.t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		s.dev.t.Fatal(err)
	}
}
