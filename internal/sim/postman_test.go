package sim

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/reconcile"
)

// signing is what the vendor signs its messages with.
const signing = "whsec_simulated"

// postman brings what the vendor pushes about objects that have changed: late, twice, or under a signature that is not the
// vendor's.
func (w *world) postman() {
	for {
		w.b.wait("postman", idle)
		if w.agents.Load() == 0 {
			return
		}
		if p := w.p; p.up && !p.dead && len(w.vendor.pushed) > 0 && w.rng.IntN(20) == 0 {
			w.bring(p, w.vendor.pushed[w.rng.IntN(len(w.vendor.pushed))])
		}
	}
}

func (w *world) bring(p *process, object string) {
	kind := "refund"
	if strings.HasPrefix(object, "po_") {
		kind = "payout"
	}
	message := fmt.Sprintf(`{"id":"evt_pushed","object":"event","type":"%s.failed","data":{"object":{"id":%q,"object":%q}}}`, kind, object, kind)
	at, forged := w.clock.ours(), w.rng.IntN(5) == 0
	mac := hmac.New(sha256.New, []byte(signing))
	fmt.Fprintf(mac, "%d.%s", at.Unix(), message)
	signature := fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(mac.Sum(nil)))
	if forged {
		signature = strings.Replace(signature, "v1=", "v1=00", 1)
	}
	ctx := context.WithValue(context.Background(), whoKey{}, "postman")
	u, ok := p.ring.FindUpstream("stripe")
	if !ok {
		return
	}
	settled := w.auditor.settledFor(object)
	err := p.reconcile.Announced(ctx, u, []byte(message), signature)
	w.b.notef("push", "postman", "%s, forged %t: error %v", object, forged, err != nil)
	switch ours := !errors.Is(err, reconcile.ErrNotOurs); {
	case p.dead:
	case forged && ours:
		w.auditor.fail("I-20", "a message about %s with a forged signature is believed: %v", object, err)
	case err == nil:
		w.auditor.announced(object, settled)
	}
}

// settledFor lists the claims on an object that are settled, and of which some came back.
func (a *auditor) settledFor(object string) (out []*claim) {
	for _, cl := range a.objects[object] {
		if cl.state == ledger.Settled && cl.back > 0 {
			out = append(out, cl)
		}
	}
	return out
}

// announced is told that a message about an object was heard: what was settled before has its last word now.
func (a *auditor) announced(object string, settled []*claim) {
	if len(settled) > 0 {
		a.heard++
	}
	if i := slices.IndexFunc(settled, func(cl *claim) bool { return cl.kept < 0 }); i >= 0 {
		a.fail("I-13", "%s came back and was announced, and reservation %d counts as before", object, settled[i].id)
	}
}
