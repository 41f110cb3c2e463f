// Package gateway is the data plane: one handler, one path. A call is authenticated, parsed, decided,
// resolved, decided again, admitted (brake, holds and record in one store transaction), sent, settled and
// answered, in that order, in one function that can be read from top to bottom (path.go).
//
// It works on upstream.Call and knows no vendor; what a route, a parameter or an answer means is the
// adapter's. It never sees an upstream secret: vault puts it on the request.
package gateway

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/vault"
)

// Limits of the data plane, each with its reason.
const (
	// MaxBody bounds a request. Stripe's largest forms are far below; files are not taken here.
	MaxBody = 1 << 20
	// maxUserAgent and maxRunID bound what an agent may write into the record.
	maxUserAgent = 512
	maxRunID     = 128
	// settleRetry is the first pause before a settlement that could not be written is tried again.
	settleRetry = 100 * time.Millisecond
	// settleRetryMax is the longest such pause.
	settleRetryMax = 5 * time.Second
	// leaveWithin is how long after its admission a write may still leave. Only a machine that stands still takes longer.
	leaveWithin = time.Minute
	// foldEvery is how often folded denials become records.
	foldEvery = time.Second
)

// Config is what a Gateway needs. Every field is required unless it says otherwise.
type Config struct {
	Adapter upstream.Adapter
	Ring    *vault.Ring
	Store   store.DB
	Client  *upstream.Client
	// Rates returns the table in force.
	Rates func() *money.Table
	Log   *slog.Logger
	// ScopeStatus is the status of out-of-scope denials; 0 = 401.
	ScopeStatus int
	// Deadline ends a call that the vendor does not answer; 0 = upstream.Deadline. It must stay under the SDKs'
	// 80 s, or agents give up before they are told the outcome.
	Deadline time.Duration
	// Webhook takes a message that a vendor signed, for the upstream of that name; nil: there is no endpoint for them.
	// It returns vault.ErrSignature for one that is not the vendor's.
	Webhook func(ctx context.Context, upstream string, message []byte, signature string) error
	// TrustedProxies may name the agent's address in X-Forwarded-For; empty = none.
	TrustedProxies []netip.Prefix
	// LookupsPerSecond bounds the look-ups of one key, and LookupsPerUpstream those of one upstream, so that
	// one runaway agent cannot spend the account's rate limit. 0 = the defaults.
	LookupsPerSecond   float64
	LookupsPerUpstream float64
	// LookupWait is how long a call may wait for its turn to look something up; 0 = 5 s.
	LookupWait time.Duration
	// CallsPerKey and CallsPerUpstream bound the calls that speak with a vendor at once, of one key and to one
	// upstream. 0 = the defaults.
	CallsPerKey      int
	CallsPerUpstream int
	// SlotWait is how long a call may wait for its turn to speak with the vendor; 0 = 5 s.
	SlotWait time.Duration
	// StoreWait is how long an agent's answer waits for its settlement to be written, which goes on behind; 0 = 5 s.
	StoreWait time.Duration
	// Lease takes hold of this process's right to act on what it knows of the store. What it returns says, right before a call
	// is sent, why it is over; renewed meanwhile it is over all the same. Nil: there is no end to it, because no other
	// process changes the store.
	Lease func() (expired func() error)
	// Ended is told of each call when its answer was handed over. It runs on the call's own goroutine, so it must be quick
	// and wait for nothing, and it must be safe for concurrent use. Nil: nobody is told.
	Ended func(*Ended)
}

// defaultStoreWait is far below the SDKs' eighty seconds.
const defaultStoreWait = 5 * time.Second

// Gateway is the data plane. It is safe for concurrent use.
type Gateway struct {
	Config
	lookups *limiters
	shares  *shares
	inside  *places // calls between the edge and their answer
	large   *places // large bodies
	uploads *places
	// messages of vendors
	messages *places
	folder   *audit.Folder

	// wire ends when calls on the wire are given up.
	wire   context.Context
	giveUp context.CancelFunc

	resending  sync.Map // ledger.ReservationID: a retry is on the wire
	unsettled  atomic.Int64
	background sync.WaitGroup
	quit       chan struct{}
	closing    sync.Once
}

// New makes a gateway. Close it to wait for what is still being written.
func New(c Config) *Gateway {
	if c.ScopeStatus == 0 {
		c.ScopeStatus = 401
	}
	if c.Deadline == 0 {
		c.Deadline = upstream.Deadline
	}
	if c.LookupsPerSecond == 0 {
		c.LookupsPerSecond = defaultLookupsPerKey
	}
	if c.LookupsPerUpstream == 0 {
		c.LookupsPerUpstream = defaultLookupsPerUpstream
	}
	if c.LookupWait == 0 {
		c.LookupWait = defaultLookupWait
	}
	c.CallsPerKey = cmp.Or(c.CallsPerKey, defaultCallsPerKey)
	c.CallsPerUpstream = cmp.Or(c.CallsPerUpstream, defaultCallsPerUpstream)
	c.SlotWait = cmp.Or(c.SlotWait, defaultSlotWait)
	c.StoreWait = cmp.Or(c.StoreWait, defaultStoreWait)
	g := &Gateway{
		Config: c, quit: make(chan struct{}), folder: audit.NewFolder(),
		lookups: newLimiters(c.LookupsPerSecond, c.LookupsPerUpstream),
		shares:  newShares(c.CallsPerKey, c.CallsPerUpstream, c.SlotWait),
		inside:  newPlaces(0, c.CallsPerKey+waitingPerKey),
		large:   newPlaces(largeBodies, largeBodies/4), uploads: newPlaces(uploads, uploads/4), messages: newPlaces(messages, 0),
	}
	g.wire, g.giveUp = context.WithCancel(context.Background())
	g.background.Go(g.flushFolds)
	return g
}

// Drain takes no more calls: those that have no slot yet, and those that still come, get a 503 that nothing was
// sent of, and Ready says no. Calls that have a slot go on.
func (g *Gateway) Drain() { g.shares.stop() }

// GiveUp ends the waiting for answers. Calls on the wire end as unknown: what they hold stays held.
func (g *Gateway) GiveUp() { g.giveUp() }

// Close stops retrying settlements and waits for records that are on their way. The store must still be
// open. What could not be settled stays held.
func (g *Gateway) Close() {
	g.closing.Do(func() { close(g.quit) })
	g.background.Wait()
	g.giveUp()
}

// lease takes hold of the right to act on what this process knows from now on.
func (g *Gateway) lease() (expired func() error) {
	if g.Lease == nil {
		return func() error { return nil }
	}
	return g.Lease()
}

// Ready reports what stands against taking money calls; nil = ready.
func (g *Gateway) Ready(ctx context.Context) error {
	select {
	case <-g.shares.stopping:
		return errStopping
	default:
	}
	if err := g.lease()(); err != nil {
		return err
	}
	if n := g.unsettled.Load(); n > 0 {
		return errUnsettled(n)
	}
	return g.Store.Check(ctx)
}

// journey is one call on its way. It belongs to the goroutine that serves it.
type journey struct {
	start     time.Time
	theirs    time.Duration // spent waiting for the vendor
	took      Timings
	lookups   int
	trace     Trace
	raw       *upstream.RawCall
	from      netip.Addr
	request   string // our request id
	agent     string // User-Agent
	run       string // X-Agent-Run-Id
	presented string
	giveBack  func() // its slot; nil: it has none

	key        *vault.Key
	credential *vault.Credential // the text of key that was sent
	policy     *policy.Policy    // of key, with what joined it
	upstream   *vault.Upstream
	call       *upstream.Call
	unread     bool // call is not read to its end
	decision   policy.Decision

	admitted store.Admitted
	resend   *ledger.Reservation
	ended    bool // its outcome was handed to the store, or will be

	// What Ended is told.
	status         int // what the agent got
	upstreamStatus int
	fate           string
	code           policy.Code // of the refusal; empty: the vendor's answer
	rule           string
	folded, told   bool
	foldedInto     string // id of the record that the refusal is counted with
}
