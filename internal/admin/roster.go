package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// roster is who may come in, as the store has it: operators, tokens, sessions and links. It is immutable; a change makes
// another one, so that whoever lost a right has lost it at the next request. Asking it needs no store.
type roster struct {
	operators map[string]store.OperatorRow // by id
	tokens    []vault.Operator             // what presented tokens are compared with
	rows      map[string]store.TokenRow    // of tokens, by name
	passes    map[vault.Digest]store.PassRow
}

func readRoster(tx store.Tx) (*roster, error) {
	operators, err1 := tx.Operators()
	tokens, err2 := tx.Tokens()
	passes, err3 := tx.Passes()
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("read who may come in: %w", err)
	}
	return newRoster(operators, tokens, passes)
}

func newRoster(operators []store.OperatorRow, tokens []store.TokenRow, passes []store.PassRow) (*roster, error) {
	r := &roster{map[string]store.OperatorRow{}, nil, map[string]store.TokenRow{}, map[vault.Digest]store.PassRow{}}
	for _, row := range operators {
		if role, ok := vault.ParseRole(row.Role); !ok || !role.May(vault.ToSee) {
			return nil, fmt.Errorf("read operator %s: the row is damaged", row.Name)
		}
		r.operators[row.ID] = row
	}
	for _, row := range tokens {
		op := vault.Operator{Name: row.Name, Created: row.Created, Expires: row.Expires}
		if _, ok := vault.ParseRole(row.Role); len(row.Digest) != len(op.Digest) || !ok && (row.Role != "" || row.Operator == "") {
			return nil, fmt.Errorf("read token %s: the row is damaged", row.Name)
		}
		copy(op.Digest[:], row.Digest)
		r.tokens, r.rows[row.Name] = append(r.tokens, op), row
	}
	for _, row := range passes {
		var digest vault.Digest
		if len(row.Digest) != len(digest) {
			return nil, errors.New("read sessions: a row is damaged")
		}
		copy(digest[:], row.Digest)
		r.passes[digest] = row
	}
	return r, nil
}

// loadRoster fills the memory at the start.
func (s *Service) loadRoster(tx store.Tx) error {
	r, err := readRoster(tx)
	if err == nil {
		s.roster.Store(r)
	}
	return err
}

// changeRoster runs one action on who may come in: one transaction with one record. f gets what the transaction sees. What
// it wrote counts from the moment this returns.
func (s *Service) changeRoster(ctx context.Context, who Actor, action string, f func(store.Tx, *audit.Record, *roster) error) error {
	s.rosterMu.Lock()
	defer s.rosterMu.Unlock()
	var next *roster
	err := s.act(ctx, store.LaneControl, who, action, func(tx store.Tx, rec *audit.Record) error {
		present, err := readRoster(tx)
		if err != nil {
			return err
		}
		if err := f(tx, rec, present); err != nil {
			return err
		}
		next, err = readRoster(tx)
		return err
	})
	if err != nil {
		return err
	}
	s.roster.Store(next)
	s.deeds.Add(1)
	s.lately.keep(next)
	return nil
}

// operator finds an account by id or name.
func (r *roster) operator(idOrName string) (store.OperatorRow, error) {
	if row, ok := r.operators[idOrName]; ok {
		return row, nil
	}
	for _, row := range r.operators {
		if row.Name == idOrName {
			return row, nil
		}
	}
	return store.OperatorRow{}, refuse(NotFound, "there is no operator %q; `keybrake operator list` shows them", idOrName)
}

// asOperator is what an account lets its owner do now; false: nothing.
func (r *roster) asOperator(id string) (Actor, bool) {
	row, ok := r.operators[id]
	role, known := vault.ParseRole(row.Role)
	if !ok || !known || !row.Disabled.IsZero() {
		return Actor{}, false
	}
	return Actor{Name: row.Name, Role: role, Operator: row.ID}, true
}

// asToken is what a token lets its holder do now: no more than its role, and no more than its operator may.
func (r *roster) asToken(name string, now time.Time) (Actor, bool) {
	row, ok := r.rows[name]
	if !ok || !row.Expires.IsZero() && !now.Before(row.Expires) {
		return Actor{}, false
	}
	role, ok := vault.ParseRole(row.Role)
	if row.Operator == "" {
		return Actor{Name: row.Name, Role: role, Token: row.Name, Via: ViaToken}, ok
	}
	who, may := r.asOperator(row.Operator)
	if ok {
		who.Role = min(who.Role, role)
	}
	who.Token, who.Via = row.Name, ViaToken
	return who, may
}

// present finds who has presented a token; false for nobody.
func (s *Service) present(token string) (Actor, bool) {
	master, now := s.Ring.Master(), s.Store.Now()
	if op, ok := master.AuthenticateOperator(token, s.locals(), now); ok {
		return Actor{Name: op.Name, Role: op.Role, Via: ViaLocal, Token: localToken(op)}, true
	}
	r := s.roster.Load()
	op, ok := master.AuthenticateOperator(token, r.tokens, now)
	if !ok {
		return Actor{}, false
	}
	who, ok := r.asToken(op.Name, now)
	if ok {
		s.noteToken(op.Name, now)
	}
	return who, ok
}

// MintLocal makes a token that lives as long as the process and is stored nowhere: the one that serve leaves
// for its own user.
func (s *Service) MintLocal(name string, role vault.Role) vault.Secret {
	secret, op := s.Ring.Master().MintOperator(name, role, s.Store.Now())
	s.localMu.Lock()
	defer s.localMu.Unlock()
	s.local = append(s.local, op)
	return secret
}

func (s *Service) locals() []vault.Operator {
	s.localMu.Lock()
	defer s.localMu.Unlock()
	return s.local[:len(s.local):len(s.local)] // entries never change
}

// localToken names a token of this process in sessions that it opened: no stored token can have such a name, and no other
// process has this one.
func localToken(op vault.Operator) string { return "local " + op.Digest.String()[:16] }

// asLocal is what a token of this process lets its holder do.
func (s *Service) asLocal(name string) (Actor, bool) {
	if !strings.HasPrefix(name, "local ") {
		return Actor{}, false
	}
	for _, op := range s.locals() {
		if localToken(op) == name {
			return Actor{Name: op.Name, Role: op.Role, Token: name}, true
		}
	}
	return Actor{}, false
}

// lately remembers when sessions and tokens were used last, more recently than the store has it. The zero value is ready.
type lately struct {
	mu sync.Mutex
	at map[string]time.Time
}

// note takes down that something is used now and reports whether that is worth writing: not more often than every so often.
func (l *lately) note(what string, now, written time.Time, every time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last := l.at[what]; now.Sub(written) < every || now.Sub(last) < every {
		return false
	}
	if l.at == nil {
		l.at = map[string]time.Time{}
	}
	l.at[what] = now
	return true
}

// of is when something was used last, as far as is known.
func (l *lately) of(what string, written time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last := l.at[what]; last.After(written) {
		return last
	}
	return written
}

// keep forgets what is not there any more.
func (l *lately) keep(r *roster) {
	there := map[string]bool{}
	for name := range r.rows {
		there[tokenUse(name)] = true
	}
	for digest := range r.passes {
		there[passUse(digest)] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for what := range l.at {
		if !there[what] {
			delete(l.at, what)
		}
	}
}

func tokenUse(name string) string        { return "token " + name }
func passUse(digest vault.Digest) string { return "pass " + digest.String() }

const (
	// tokenNoted and sessionNoted are how often it is written down that a token or a session is in use.
	tokenNoted   = 10 * time.Minute
	sessionNoted = time.Minute
	// noteWait bounds how long that waits for the store; if it fails, the next use tries again.
	noteWait = 5 * time.Second
)

func (s *Service) noteToken(name string, now time.Time) {
	if s.lately.note(tokenUse(name), now, s.roster.Load().rows[name].Used, tokenNoted) {
		s.later(func(tx store.Tx, r *roster) error {
			if _, there := r.rows[name]; !there {
				return nil
			}
			return tx.UseToken(name, now)
		})
	}
}

func (s *Service) notePass(digest vault.Digest, now time.Time) {
	if s.lately.note(passUse(digest), now, s.roster.Load().passes[digest].Seen, sessionNoted) {
		s.later(func(tx store.Tx, r *roster) error {
			row, there := r.passes[digest]
			if !there { // it has ended; writing it would bring it back
				return nil
			}
			row.Seen = now
			return tx.PutPass(row)
		})
	}
}

// later writes what nobody waits for and no record is made of.
func (s *Service) later(f func(store.Tx, *roster) error) {
	s.background.Go(func() {
		s.rosterMu.Lock()
		defer s.rosterMu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), noteWait)
		defer cancel()
		err := s.Store.Update(ctx, store.LaneControl, func(tx store.Tx) error {
			present, err := readRoster(tx) // another node may have ended a session that we remember
			if err != nil {
				return err
			}
			return f(tx, present)
		})
		if err != nil {
			s.Log.Debug("it could not be written down that an operator is here", "error", err)
		}
	})
}
