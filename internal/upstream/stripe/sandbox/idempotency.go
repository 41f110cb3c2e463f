package sandbox

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"time"
)

const (
	// maxIdempotencyKey is Stripe's limit on the length of a key.
	maxIdempotencyKey = 255
	// idempotencyLife is how long Stripe promises to remember a key (v1).
	idempotencyLife = 24 * time.Hour
)

// remembered is what is kept of the first run of a key.
type remembered struct {
	key    string
	print  [sha256.Size]byte
	path   string
	at     time.Time
	reqID  string
	done   bool
	status int
	body   []byte
}

// idempotency is Stripe's store of keys: per account, whatever credential was used.
type idempotency struct {
	byKey  map[string]*remembered
	order  []*remembered
	limit  int // 0: no bound
	forgot int // dropped before their time because of limit
}

// life is how long a key is remembered.
func (e *remembered) life() time.Duration {
	if isV2(e.path) {
		return idempotencyLifeV2
	}
	return idempotencyLife
}

// runsAgain reports a key whose next use is a first run: it is too old, or what
// it did in v2 failed.
func (e *remembered) runsAgain(now time.Time) bool {
	return now.Sub(e.at) >= e.life() || isV2(e.path) && e.done && e.status >= http.StatusBadRequest
}

func (i *idempotency) prune(now time.Time) {
	for len(i.order) > 0 {
		oldest := i.order[0]
		early := i.limit > 0 && len(i.order) > i.limit
		if !early && now.Sub(oldest.at) < oldest.life() {
			return
		}
		if i.byKey[oldest.key] == oldest {
			delete(i.byKey, oldest.key)
			if early {
				i.forgot++
			}
		}
		i.order[0] = nil
		i.order = i.order[1:]
	}
}

// begin claims a key for a first run (nil, nil), or returns what answers instead.
func (i *idempotency) begin(c *call, path string, now time.Time) (*remembered, *stripeError) {
	i.prune(now)
	print := sha256.Sum256(c.p.canonical(make([]byte, 0, 256)))
	first, ok := i.byKey[c.idemKey]
	if !ok || first.runsAgain(now) {
		e := &remembered{key: c.idemKey, print: print, path: path, at: now, reqID: c.reqID}
		i.byKey[c.idemKey] = e
		i.order = append(i.order, e)
		return nil, nil
	}
	f := &stripeError{status: http.StatusBadRequest, typ: typeIdempotency, retry: "false"}
	switch {
	case first.path != path:
		f.message = fmt.Sprintf("Keys for idempotent requests can only be used for the same endpoint they were first used for ('%s' vs '%s'). "+
			"Try using a key other than '%s' if you meant to execute a different request.", path, first.path, c.idemKey)
		return nil, f
	case first.print != print:
		f.message = fmt.Sprintf("Keys for idempotent requests can only be used with the same parameters they were first used with. "+
			"Try using a key other than '%s' if you meant to execute a different request.", c.idemKey)
		return nil, f
	case !first.done:
		return nil, &stripeError{status: http.StatusConflict, typ: typeIdempotency, code: "idempotency_key_in_use",
			message: "There is currently another in-progress request using this Idempotent Key (that probably means you submitted twice, " +
				"and the other request is still going through): " + c.idemKey + ". Please try again later."}
	}
	return first, nil
}

// finish stores the answer of a first run.
func (i *idempotency) finish(key string, status int, body []byte) {
	if e := i.byKey[key]; e != nil {
		e.done, e.status, e.body = true, status, body
	}
}

// forget frees a key, as if the request had never reached execution.
func (i *idempotency) forget(key string) { delete(i.byKey, key) }
