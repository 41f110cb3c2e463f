package sdk

import (
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/vault"
)

// anyCustomer is what most keys may: enough for every call of the tables to pass.
const anyCustomer = `
scopes: {charges: read, refunds: write, payment_intents: write, products: write}
caps:
  - {resource: refunds, per: day, usd: 1000.00}
  - {resource: payment_intents, per: day, usd: 1000.00}
customers: any
`

// readCharge and refundOwn pass with anyCustomer.
var (
	readCharge = ask{Op: "charges.retrieve", ID: "{own}"}
	refundOwn  = ask{Op: "refunds.create", Params: map[string]string{"charge": "{own}", "amount": "100"}}
	payment    = ask{Op: "payment_intents.create", Params: map[string]string{"amount": "2500", "currency": "usd"}}
)

func rightKey(s *scene, a *ask) { a.Key = s.key.Key }

// stop pulls a brake and says how it is lifted.
func stop(target func(*scene) map[string]any) (before, cured func(*scene, *ask)) {
	before = func(s *scene, _ *ask) { s.admin("POST", "kill", target(s), nil) }
	cured = func(s *scene, _ *ask) {
		resume := target(s)
		delete(resume, "read_only")
		resume["reason"] = "the cure"
		s.admin("POST", "resume", resume, nil)
	}
	return before, cured
}

var (
	stopKey, resumeKey = stop(func(s *scene) map[string]any { return map[string]any{"keys": []string{s.key.ID}} })
	stopUp, resumeUp   = stop(func(*scene) map[string]any { return map[string]any{"upstream": demoUpstream} })
	stopAll, resumeAll = stop(func(*scene) map[string]any { return map[string]any{"all": true} })
	readOnly, writable = stop(func(s *scene) map[string]any {
		return map[string]any{"keys": []string{s.key.ID}, "read_only": true}
	})
)

var keyDenials = []denial{
	{
		name: "no key at all", code: policy.CodeKeyInvalid, call: refundOwn,
		before:  func(_ *scene, a *ask) { a.Key = "" },
		refused: "No vault key was sent", cure: "Send one as `Authorization: Bearer", cured: rightKey,
		without: map[string]string{
			"stripe-node":   "it refuses an empty key by itself, when the client is made",
			"stripe-python": "it refuses an empty key by itself",
		},
	},
	{
		name: "a misspelled key", code: policy.CodeKeyInvalid, call: refundOwn,
		before:  func(_ *scene, a *ask) { a.Key = a.Key[:len(a.Key)-3] + "xxx" },
		refused: "misspelled or cut off", cure: "Copy it again", cured: rightKey,
	},
	{
		name: "a test key spelled as a live one", code: policy.CodeKeyInvalid, call: refundOwn,
		before:  func(_ *scene, a *ask) { a.Key = strings.Replace(a.Key, "_test_", "_live_", 1) },
		refused: "misspelled or cut off", cure: "Copy it again", cured: rightKey,
	},
	{
		name: "a key of Stripe's", code: policy.CodeKeyInvalid, call: refundOwn,
		before:  func(_ *scene, a *ask) { a.Key = "sk_test_sandbox" },
		refused: "is not a vault key", cure: "Keybrake takes vault keys", cured: rightKey,
	},
	{
		name: "a key that another Keybrake made", code: policy.CodeKeyInvalid, call: refundOwn,
		before: func(s *scene, a *ask) {
			another, err := vault.EphemeralMaster()
			if err != nil {
				s.dev.t.Fatal(err)
			}
			text, _, _ := another.Mint(vault.Test)
			a.Key = text.Reveal()
		},
		refused: "is not known here", cure: "Check that it was copied whole and belongs to this Keybrake", cured: rightKey,
	},
	{
		name: "a revoked key", code: policy.CodeKeyRevoked, call: refundOwn,
		before: func(s *scene, _ *ask) {
			s.admin("POST", "keys/"+s.key.ID+"/revoke", map[string]string{"reason": "test"}, nil)
		},
		refused: "was revoked on", cure: "Ask its operator for a new one",
		cured: func(s *scene, a *ask) { a.Key = s.newKey("", "").Key },
	},
	{
		name: "a text that a rotation has ended", code: policy.CodeKeyExpired, call: refundOwn,
		before: func(s *scene, _ *ask) {
			s.admin("POST", "keys/"+s.key.ID+"/rotate", map[string]string{"overlap": "0s"}, &s.key)
		},
		refused: "was rotated", cure: "Use the new one", cured: rightKey,
	},
	{
		name: "a killed key", code: policy.CodeKeyKilled, call: refundOwn, before: stopKey,
		refused: "is stopped", cure: "an operator has to resume it", cured: resumeKey,
	},
	{
		name: "a killed key that reads", code: policy.CodeKeyKilled, call: readCharge, before: stopKey,
		refused: "is stopped", cure: "an operator has to resume it", cured: resumeKey,
	},
	{
		name: "a killed upstream", code: policy.CodeKeyKilled, call: refundOwn, before: stopUp,
		refused: "The upstream " + demoUpstream + " is stopped", cure: "an operator has to resume it", cured: resumeUp,
	},
	{
		name: "everything killed", code: policy.CodeKeyKilled, call: refundOwn, before: stopAll,
		refused: "Everything is stopped", cure: "an operator has to resume it", cured: resumeAll,
	},
	{
		name: "a write while the key may only read", code: policy.CodeKeyReadOnly, call: refundOwn, before: readOnly,
		refused: "is read-only", cure: "an operator has to resume it", cured: writable,
	},
	{
		name: "a call from elsewhere", code: policy.CodeKeyNetwork, policy: anyCustomer + "network: [10.0.0.0/8]\n", call: refundOwn,
		refused: "may not be used from 127.0.0.1", cure: "Call from inside",
		cured: func(s *scene, _ *ask) { s.update(anyCustomer) },
	},
	{
		name: "a write of a frozen key", code: policy.CodeFrozen, call: payment,
		before: func(s *scene, _ *ask) { // Stripe forgets what it has answered, and runs the retry as another call
			s.fault(`{"kind":"forget","method":"POST","path":"/v1/refunds"}`)
			s.mustPost(200, "/v1/refunds", "twice", refundOwn.Params)
			s.mustPost(200, "/v1/refunds", "twice", refundOwn.Params)
		},
		refused: "writes are frozen", cure: "An operator must look at it and lift the freeze", cured: resumeKey,
	},
}

// timeDenials come last: what they wait for comes about while the others are tried.
var timeDenials = []denial{
	{
		name: "an expired key", code: policy.CodeKeyExpired, call: refundOwn,
		before: func(s *scene, a *ask) {
			a.Key = s.expiring.Key
			for state := ""; state != "expired"; time.Sleep(10 * time.Millisecond) {
				var shown struct{ State string }
				s.admin("GET", "keys/"+s.expiring.ID, nil, &shown)
				state = shown.State
			}
		},
		refused: "expired on", cure: "Ask its operator for a new one", cured: rightKey,
	},
}
