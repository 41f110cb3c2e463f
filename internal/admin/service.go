package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keybrake/keybrake/internal/alert"
	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/reconcile"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/vault"
)

// Prober asks an upstream's vendor a harmless question with the upstream's own secret.
type Prober interface {
	// Probe sends a GET to the upstream's pinned host. path and query are canonical. err is set only if
	// there was no answer. It is safe for concurrent use and returns when ctx ends.
	Probe(ctx context.Context, up *vault.Upstream, path, query string) (status int, body []byte, err error)
	// Try sends what of a probe the vendor refuses whatever the credential may do. Errors are as with Probe.
	Try(ctx context.Context, up *vault.Upstream, p upstream.Probe) (status int, err error)
}

// Need is one thing that Keybrake itself must be able to read at an upstream.
type Need struct {
	Name    string // the permission, in the vendor's words: "Charges: Read"
	Path    string
	Query   string
	Without string // what does not work without it, one sentence
}

// AccountQuestion is how a vendor is asked which account a secret belongs to.
type AccountQuestion struct {
	Path string
	// Of reads the account's id out of the answer, also out of a refusal that names it; empty: it does not tell. Pure.
	Of func(status int, body []byte) string
	// Needs is the permission, in the vendor's words, with which it is told surely.
	Needs string
}

// Config is what a Service needs. Store, Ring and Vocabulary are required.
type Config struct {
	Store      store.DB
	Ring       *vault.Ring
	Vocabulary *policy.Vocabulary
	// Prober asks new upstreams for Needs; nil: upstreams are taken as they are.
	Prober Prober
	Needs  []Need
	// Account tells which account a secret belongs to; the zero value: nobody can tell, and accounts are not compared.
	Account AccountQuestion
	// Restricted describes the least credential at the vendor for a policy; nil: nobody can tell. It is pure.
	Restricted func(p *policy.Policy, mode vault.Mode) RestrictedKey
	// Scopes is the permission map; nil: there is none to show.
	Scopes []Scope
	// Probes are calls without an effect, one for each operation; none: nothing can be verified.
	Probes []upstream.Probe
	// Agents is the agents' listener: what a vault key sends goes in there. Nil: no key can be verified.
	Agents func() http.Handler
	// Statements holds the ledger against a vendor's books; nil: this server cannot.
	Statements *reconcile.Statements
	// Reconciler asks upstreams what became of calls; nil: nobody does.
	Reconciler Reconciler
	// Safety says what the store can lose of what it acknowledged; nil: nobody knows.
	Safety func() store.Safety
	// Cluster is the other processes that serve the store; nil: there can be none.
	Cluster Cluster
	// Backup writes a copy of the store to a file that is not there yet, and returns the number of its last record;
	// nil: no backups. BackupFolder is where copies lie until they are sent; empty: the system's temporary folder.
	Backup       func(ctx context.Context, path string) (seq int64, err error)
	BackupFolder string
	// BaseURL and Version are what an upstream gets that names none.
	BaseURL string
	Version string
	// KillFile is where a stop is left that could not be made durable; empty: nowhere.
	KillFile string
	// Ready adds to what /readyz asks; nil: the store alone decides.
	Ready func(context.Context) error
	// Metrics answers GET /metrics, for whoever may see; nil: there is no such place.
	Metrics http.Handler
	// ConsoleURL is where browsers reach the console, for links; empty: whoever shows a link knows.
	ConsoleURL string
	// OpenID lets operators sign in through a provider; nil: by tokens and links alone.
	OpenID *OpenIDConfig
	// Alerter tells people outside; nil: nobody is told.
	Alerter *alert.Watcher
	// Hosts are the names under which the API may be called beside addresses and localhost.
	Hosts []string
	Log   *slog.Logger // nil: the default logger
}

// Service does what operators ask for. It is safe for concurrent use. Load must return before anything else
// is called.
type Service struct {
	Config
	rates    atomic.Pointer[money.Table]
	roster   atomic.Pointer[roster]
	brakes   brakes
	figures  figures
	lately   lately
	attempts attempts
	openID   *openID // nil: none

	// changes keeps operators' changes in order, so that what is checked in the ring still holds when it is
	// written. Brakes do not take it: a stop waits for nobody.
	changes sync.Mutex

	// rosterMu keeps changes of who may come in, in order. It is apart from changes: to lock somebody out waits for nobody.
	rosterMu sync.Mutex
	// deeds counts what was changed here, and looked is where it stood when the store was last looked at for what others
	// changed: what was read then may be older than what was done here since.
	deeds, looked atomic.Int64

	localMu sync.Mutex
	local   []vault.Operator // tokens that live as long as the process

	killFileMu  sync.Mutex
	lastApplied string // of a KILL file that could not be renamed

	longReads  pace
	replays    pace
	replaying  sync.Mutex // one at a time
	background sync.WaitGroup
}

// New makes a service.
func New(c Config) *Service {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	s := &Service{Config: c}
	if c.OpenID != nil {
		s.openID = newOpenID(*c.OpenID, func() time.Time { return c.Store.Now() })
	}
	s.rates.Store(money.NewTable(nil))
	s.roster.Store(&roster{})
	s.brakes.applied = make(map[string]store.BrakeRow)
	s.brakes.memory = make(map[string]vault.Brake)
	s.brakes.pulls = make(map[string]uint64)
	s.brakes.lifted = make(map[string]int64)
	return s
}

// Close waits for stops that are still being made durable. The store must still be open.
func (s *Service) Close() { s.background.Wait() }

// Rates returns the rates in force. The table is immutable; a change is another table.
func (s *Service) Rates() *money.Table { return s.rates.Load() }

// Actor is who does something, for the audit record, and what they may do. The zero Actor may do nothing.
type Actor struct {
	Name string // the operator's or the token's, or what stands in for one: "kill-file", "SIGUSR1"
	Role vault.Role
	// Operator is the id of the account; empty for whoever has none: a tool's token, the process's own user, a signal.
	Operator string
	From     string // address; empty for none
	Via      Via
	// Token is the name of the token that they came in with, or that opened their session; empty for none.
	Token string
	// Session is the id of the session; empty for none.
	Session string
}

// May reports whether the actor has a right, by its name: stop, see, lower or change.
func (a Actor) May(right string) bool {
	for r := vault.ToStop; r <= vault.ToChange; r++ {
		if r.String() == right {
			return a.Role.May(r)
		}
	}
	return false
}

// Via is how somebody came in.
type Via string

// The ways in.
const (
	ViaToken   Via = "token"   // a stored token
	ViaSession Via = "session" // signed in at the console
	ViaLocal   Via = "local"   // the token that serve left for its own user
	ViaProcess Via = "process" // a signal, the KILL file, the server itself
)

// Kind says what stands against an action.
type Kind uint8

// The kinds.
const (
	Invalid     Kind = iota // the request itself is wrong
	NotFound                // it names what does not exist
	Conflict                // it does not go with how things stand
	Unavailable             // the store could not take it
	Forbidden               // the operator's role does not cover it
	Stranger                // nobody knows who it is
	TooMany                 // too often in too short a time
	Stale                   // it is about a version that is not the present one any more
	Unversioned             // it does not say which version it is about
	Reused                  // its idempotency key belongs to another request
)

// Refusal is why an action was not done, for the operator: nothing was changed, but where the store broke down in the
// middle of it, which the message says.
type Refusal struct {
	Kind    Kind
	Message string // says what to do
	// Fields says it once more for each part of the request that is wrong, where it is known which; Message has it all.
	Fields []Field
	policy []policy.Problem // of a policy that was refused
}

// Error returns the message.
func (r *Refusal) Error() string { return r.Message }

// Status is the HTTP status that says so.
func (r *Refusal) Status() int { return statusOf(r.Kind) }

func refuse(kind Kind, format string, args ...any) *Refusal {
	return &Refusal{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// act runs one action: one transaction with one audit record, which f completes. Nothing is written if f
// returns an error.
func (s *Service) act(ctx context.Context, lane store.Lane, who Actor, action string, f func(store.Tx, *audit.Record) error) error {
	rec := &audit.Record{Kind: audit.KindOperator, Operator: who.Name, From: who.From, Action: action}
	err := s.Store.Update(ctx, lane, func(tx store.Tx) error {
		if err := f(tx, rec); err != nil {
			return err
		}
		if _, err := tx.Append(rec); err != nil {
			return fmt.Errorf("record %s: %w", action, err)
		}
		return nil
	})
	if err == nil || errors.Is(err, store.ErrUncertain) {
		s.deeds.Add(1)
	}
	return understood(action, err)
}

// understood turns errors that an operator can act on into refusals.
func understood(action string, err error) error {
	var refused *Refusal
	var archive *store.ArchiveError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return refused
	case errors.Is(err, store.ErrUncertain):
		return refuse(Unavailable, "the store broke down while it was written; whether it was changed is seen when the store is open again: %v", err)
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrBusy):
		return refuse(Unavailable, "the store could not take it, nothing was changed: %v", err)
	case errors.Is(err, store.ErrExists), errors.Is(err, vault.ErrNameTaken):
		return refuse(Conflict, "the name is taken; choose another one")
	case errors.Is(err, store.ErrNotFound):
		return refuse(NotFound, "it does not exist (any more)")
	case errors.As(err, &archive):
		return refuse(Conflict, "%v; put it back from a copy, or move it and all older ones away to do without them", archive)
	default:
		return fmt.Errorf("%s: %w", action, err)
	}
}

// Loaded says what Load found.
type Loaded struct {
	Keys, Upstreams int
	// Problems name what could not be read and was shut instead, one sentence each.
	Problems []string
}

// Load fills the ring from the store: upstreams, brakes, keys, then rates and operators' tokens, and applies
// a KILL file that was left. A key whose stored policy this program does not understand is loaded with a
// policy that permits nothing. When Load returns without error, calls may be taken.
func (s *Service) Load(ctx context.Context) (Loaded, error) {
	var out Loaded
	err := s.Store.View(ctx, func(tx store.Tx) error {
		rows, err := tx.Brakes()
		if err != nil {
			return fmt.Errorf("read brakes: %w", err)
		}
		if out.Upstreams, err = s.loadUpstreams(tx); err != nil {
			return err
		}
		if err := s.loadKeys(tx, rows, &out); err != nil {
			return err
		}
		rates, err := tx.Rates()
		if err != nil {
			return fmt.Errorf("read rates: %w", err)
		}
		s.rates.Store(money.NewTable(rates))
		if err := s.loadRoster(tx); err != nil {
			return err
		}
		// Everything is there, so that everything can be released: the ring starts stopped.
		s.brakes.mu.Lock()
		defer s.brakes.mu.Unlock()
		s.apply(rows)
		return s.setBrake(store.ScopeAll, s.brakes.of(store.ScopeAll))
	})
	if err != nil {
		return out, fmt.Errorf("load the store: %w", err)
	}
	if s.KillFile != "" {
		s.applyKillFile(ctx, s.KillFile)
	}
	return out, nil
}

func (s *Service) loadUpstreams(tx store.Tx) (int, error) {
	rows, err := tx.Upstreams()
	if err != nil {
		return 0, fmt.Errorf("read upstreams: %w", err)
	}
	for _, row := range rows {
		u, err := decodeUpstream(row)
		if err != nil {
			return 0, err
		}
		u.Brake = vault.Normal
		if _, err := s.Ring.PutUpstream(u); err != nil {
			return 0, err
		}
	}
	return len(rows), nil
}

// loadKeys parses each policy once, however many keys have it.
func (s *Service) loadKeys(tx store.Tx, brakes []store.BrakeRow, out *Loaded) error {
	stopped := make(map[string]store.BrakeRow, len(brakes))
	for _, b := range brakes {
		stopped[b.Scope] = b
	}
	policies := make(map[string]*policy.Policy)
	return tx.EachKey(func(row store.KeyRow) error {
		p, known := policies[row.Digest]
		if !known {
			var err error
			if p, err = s.storedPolicy(row); err != nil {
				out.Problems = append(out.Problems, notUnderstood(row, err))
				p = nothing()
			}
			policies[row.Digest] = p
		}
		k, err := store.DecodeKey(row, p)
		if err != nil {
			return err
		}
		k.Brake = vault.Normal
		if b, ok := stopped[store.KeyScope(k.ID)]; ok {
			k.Brake = b.Mode
		}
		if _, err := s.Ring.PutKey(*k); err != nil {
			return err
		}
		out.Keys++
		return nil
	})
}

func (s *Service) storedPolicy(row store.KeyRow) (*policy.Policy, error) {
	p, _, err := policy.Parse("policy of "+row.Name, row.Policy, s.Vocabulary)
	return p, err
}
