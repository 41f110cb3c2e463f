package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// posted sends a create under an idempotency key.
func posted(t *testing.T, c *Client, path, key, body string) (answer map[string]any, replayed bool, err error) {
	t.Helper()
	resp, err := c.send(t.Context(), http.MethodPost, path, nil, "application/json", strings.NewReader(body), header{"Idempotency-Key", key})
	if err == nil {
		replayed = resp.Header.Get("Idempotent-Replayed") == "true"
	}
	answer, err = receive[map[string]any](resp, err)
	return answer, replayed, err
}

// creates are the routes that make something, with a request for each.
var creates = map[string]string{
	"keys":      `{"name":"agent-support-refunds-once","upstream":"stripe-test","preset":"refund-support","customers":["cus_A"]}`,
	"upstreams": `{"name":"other","secret":"rk_test_51OtherOtherOther"}`,
	"operators": `{"name":"ines","role":"auditor"}`,
	"tokens":    `{"name":"ci","role":"stop"}`,
}

func TestACreateThatIsSentAgainMakesNothingMoreAndShowsNoSecret(t *testing.T) {
	w := newWorld(t)
	w.operator(t, "bert", vault.RoleAdmin)
	_, other := w.token(t, TokenRequest{Name: "bert", Operator: "bert"})
	whole := t
	for path, body := range creates {
		t.Run(path, func(t *testing.T) {
			before := len(w.records(t))
			first, replayed, err := posted(t, w.client, path, "one", body)
			if err != nil || replayed {
				t.Fatalf("the first: %v, replayed %v", err, replayed)
			}
			w.restart(whole)
			again, replayed, err := posted(t, w.client, path, "one", body)
			if err != nil || !replayed {
				t.Fatalf("the second: %v, replayed %v", err, replayed)
			}
			for _, secret := range []string{"key", "token"} {
				if again[secret] != nil {
					t.Errorf("the second shows the %s again", secret)
				}
			}
			if first["name"] != again["name"] || first["id"] != again["id"] {
				t.Errorf("the second is about %v, the first about %v", again, first)
			}
			var p *Problem
			spaced := strings.Replace(body, ",", " ,\n ", 1)
			if _, replayed, err := posted(t, w.client, path, "one", spaced); err != nil || !replayed {
				t.Errorf("the same in other spacing: %v, replayed %v", err, replayed)
			}
			changed := strings.Replace(body, `"name":"`, `"name":"x`, 1)
			if _, _, err := posted(t, w.client, path, "one", changed); !errors.As(err, &p) || p.Status != 422 || p.Field("header.Idempotency-Key") == "" {
				t.Errorf("another request under the key: %v", err)
			}
			if _, _, err := posted(t, w.client, path, "two", body); !errors.As(err, &p) || p.Status != 409 {
				t.Errorf("the same under another key: %v", err)
			}
			if now := len(w.records(t)); now != before+1 {
				t.Errorf("%d records", now-before)
			}
			if text := w.creationsText(t, path); strings.Contains(text, "vault_key_") || strings.Contains(text, "keybrake_admin_") || strings.Contains(text, "OtherOther") {
				t.Errorf("the store remembers a secret: %s", text)
			}
		})
	}
	body := `{"name":"erika","role":"auditor"}`
	if _, replayed, err := posted(t, w.client, "operators", "shared", body); err != nil || replayed {
		t.Fatal(err)
	}
	asBert, err := NewClient(w.server.URL, other)
	if err != nil {
		t.Fatal(err)
	}
	var p *Problem
	if _, replayed, err := posted(t, asBert, "operators", "shared", body); replayed || !errors.As(err, &p) || p.Status != 409 {
		t.Errorf("somebody else's key: %v, replayed %v", err, replayed)
	}
}

// TestARotationOrALinkThatIsAskedForAgainIsNotMadeAgain: whoever lost the answer learns what there is, and nothing secret.
func TestARotationOrALinkThatIsAskedForAgainIsNotMadeAgain(t *testing.T) {
	w := newWorld(t)
	w.operator(t, "ines", vault.RoleAuditor)
	w.operator(t, "bert", vault.RoleAuditor)
	k, other := w.key(t, "agent-support-refunds-r1"), w.key(t, "agent-support-refunds-r2")
	for _, c := range []struct {
		path, elsewhere, body, changed string
		secret, same                   string // members: of the first answer alone, and of both
	}{
		{"keys/" + k.ID + "/rotate", "keys/" + other.ID + "/rotate", `{"overlap":"1h"}`, `{"overlap":"2h"}`, "key", "last4"},
		{"operators/ines/invite", "operators/bert/invite", `{"expires":"1h"}`, `{"expires":"2h"}`, "path", "expires"},
		{"upstreams/stripe-test/rotate", "", `{"secret":"rk_test_51OtherOtherOther","same_account":true}`, `{"secret":"rk_test_51ThirdThirdThird","same_account":true}`, "", "secret"},
	} {
		t.Run(c.path, func(t *testing.T) {
			before := len(w.records(t))
			first, replayed, err := posted(t, w.client, c.path, "one", c.body)
			if err != nil || replayed || c.secret != "" && first[c.secret] == nil {
				t.Fatalf("the first: %v, %v, replayed %v", first, err, replayed)
			}
			again, replayed, err := posted(t, w.client, c.path, "one", c.body)
			if err != nil || !replayed || again[c.secret] != nil || again[c.same] != first[c.same] {
				t.Errorf("the second: %v after %v, %v, replayed %v", again, first, err, replayed)
			}
			var p *Problem
			if _, _, err := posted(t, w.client, c.path, "one", c.changed); !errors.As(err, &p) || p.Status != 422 {
				t.Errorf("another request under the key: %v", err)
			}
			if now := len(w.records(t)); now != before+1 {
				t.Errorf("%d records", now-before)
			}
			if c.elsewhere == "" {
				return
			}
			if _, _, err := posted(t, w.client, c.elsewhere, "one", c.body); !errors.As(err, &p) || p.Status != 422 {
				t.Errorf("the same of something else under the key: %v", err)
			}
			if next, replayed, err := posted(t, w.client, c.path, "two", c.body); err != nil || replayed || next[c.secret] == first[c.secret] {
				t.Errorf("the same under another key: %v, %v, replayed %v", next, err, replayed)
			}
		})
	}
}

func TestEqualRotationsAtOnceMakeOneText(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-r1")
	var shown atomic.Int32
	var crowd sync.WaitGroup
	for range 8 {
		crowd.Go(func() {
			got, _, err := posted(t, w.client, "keys/"+k.ID+"/rotate", "one", `{}`)
			if err != nil {
				t.Error(err)
			}
			if got["key"] != nil {
				shown.Add(1)
			}
		})
	}
	crowd.Wait()
	if d, err := w.client.Key(t.Context(), k.ID); err != nil || shown.Load() != 1 || d.Texts != 2 {
		t.Errorf("%d showed a text, %d work, %v", shown.Load(), d.Texts, err)
	}
}

// creationsText is what the store remembers of a create.
func (w *world) creationsText(t *testing.T, path string) string {
	t.Helper()
	var request any
	switch path {
	case "keys":
		request = new(KeyRequest)
	case "upstreams":
		request = new(UpstreamRequest)
	case "operators":
		request = new(OperatorRequest)
	default:
		request = new(TokenRequest)
	}
	if err := json.Unmarshal([]byte(creates[path]), request); err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{"keys": "create-key", "upstreams": "add-upstream", "operators": "create-operator", "tokens": "create-token"}
	c, err := newCreation(Actor{Name: "local"}, ids[path], "one", request)
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	err = w.db.View(t.Context(), func(tx store.Tx) error {
		row, err := tx.Creation(c.digest)
		text = append(row.Answer, row.Request...)
		return err
	})
	if err != nil || !bytes.Contains(text, []byte(`"name"`)) {
		t.Fatalf("%q, %v", text, err)
	}
	return string(text)
}

func TestACreateIsForgottenAfterADayAndWhatItMadeStays(t *testing.T) {
	w := newWorld(t)
	if _, _, err := posted(t, w.client, "operators", "one", creates["operators"]); err != nil {
		t.Fatal(err)
	}
	w.pass(store.CreationsKept + time.Second)
	var p *Problem
	if _, replayed, err := posted(t, w.client, "operators", "one", creates["operators"]); replayed || !errors.As(err, &p) || p.Status != 409 {
		t.Errorf("a day later: %v, replayed %v", err, replayed)
	}
}

func TestARefusedCreateLeavesItsKeyFree(t *testing.T) {
	w := newWorld(t)
	if _, _, err := posted(t, w.client, "operators", "one", `{"name":"me","role":"auditor"}`); err == nil {
		t.Fatal("a reserved name was taken")
	}
	if _, replayed, err := posted(t, w.client, "operators", "one", creates["operators"]); err != nil || replayed {
		t.Errorf("a better request under the same key: %v, replayed %v", err, replayed)
	}
}

func TestEqualCreatesAtOnceMakeOneThing(t *testing.T) {
	w := newWorld(t)
	before := len(w.records(t))
	var secrets, replays atomic.Int32
	var crowd sync.WaitGroup
	for range 8 {
		crowd.Go(func() {
			// Without a name of its own the second would get another one.
			got, replayed, err := posted(t, w.client, "keys", "one", `{"preset":"refund-support","customers":["cus_A"]}`)
			if err != nil {
				t.Error(err)
			}
			if got["key"] != nil {
				secrets.Add(1)
			}
			if replayed {
				replays.Add(1)
			}
		})
	}
	crowd.Wait()
	if secrets.Load() != 1 || replays.Load() != 7 {
		t.Errorf("%d showed a key, %d were replays", secrets.Load(), replays.Load())
	}
	if now := len(w.records(t)); now != before+1 {
		t.Errorf("%d records", now-before)
	}
}

func TestTheClientSendsACreateAgainWhoseAnswerWasLost(t *testing.T) {
	w := newWorld(t)
	before := len(w.records(t))
	handler := w.Handler()
	var attempts atomic.Int32
	lossy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if attempts.Add(1) == 1 {
			handler.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		handler.ServeHTTP(rw, r)
	}))
	t.Cleanup(lossy.Close)
	c, err := NewClient(lossy.URL, w.client.token)
	if err != nil {
		t.Fatal(err)
	}
	if op, err := c.CreateOperator(t.Context(), OperatorRequest{Name: "ines", Role: "auditor"}); err != nil || op.Name != "ines" {
		t.Errorf("an operator: %+v, %v", op, err)
	}
	attempts.Store(0)
	k, err := c.CreateKey(t.Context(), KeyRequest{Preset: "refund-support", PolicyEdit: PolicyEdit{Customers: []string{"cus_A"}}})
	if err == nil || !strings.Contains(err.Error(), "keybrake key rotate "+k.ID) {
		t.Errorf("a key whose text nobody saw: %+v, %v", k, err)
	}
	attempts.Store(1)
	made := w.key(t, "agent-support-refunds-r1")
	for name, do := range map[string]func() error{
		"a rotation": func() error { _, err := c.RotateKey(t.Context(), made.ID, Rotation{}); return err },
		"a link":     func() error { _, err := c.Invite(t.Context(), "ines", InviteRequest{}); return err },
	} {
		attempts.Store(0)
		if err := do(); err == nil || !strings.Contains(err.Error(), "lost on the way") {
			t.Errorf("%s whose answer nobody saw: %v", name, err)
		}
	}
	if now := len(w.records(t)); now != before+5 {
		t.Errorf("%d records", now-before)
	}
}
