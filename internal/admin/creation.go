package admin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/danielgtaylor/huma/v2"

	"github.com/keybrake/keybrake/internal/store"
)

// creation is a create that carries an idempotency key: which one it is, and what it asks for. Requests have secrets in them
// that nobody guesses, so their digest tells nothing.
type creation struct {
	digest, request []byte
}

type creationKey struct{}

// newCreation names a create by who asks for what under which key. Two people may use the same key without meeting.
func newCreation(who Actor, operation, key string, request any) (creation, error) {
	name, err1 := json.Marshal([]string{who.Operator, who.Name, operation, key})
	text, err2 := json.Marshal(request)
	if err := errors.Join(err1, err2); err != nil {
		return creation{}, fmt.Errorf("name a create: %w", err)
	}
	digest, asked := sha256.Sum256(name), sha256.Sum256(text)
	return creation{digest[:], asked[:]}, nil
}

// remember notes what a create answers, in the transaction that makes it. The answer must have no secret in it. Without an
// idempotency key there is nothing to note.
func remember(ctx context.Context, tx store.Tx, answer any) error {
	c, ok := ctx.Value(creationKey{}).(creation)
	if !ok {
		return nil
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("remember a create: %w", err)
	}
	return tx.PutCreation(store.CreationRow{Digest: c.digest, Request: c.request, Answer: text, At: tx.Now()})
}

// remembered reads into out what an earlier create with the same key answered; false: there was none.
func (s *Service) remembered(ctx context.Context, c creation, out any) (found bool, err error) {
	var row store.CreationRow
	err = s.Store.View(ctx, func(tx store.Tx) (err error) {
		row, err = tx.Creation(c.digest)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return false, nil
	case err != nil:
		return false, understood("look for an earlier create", err)
	case s.Store.Now().Sub(row.At) >= store.CreationsKept:
		return false, nil
	case !bytes.Equal(row.Request, c.request):
		return true, refuse(Reused, "the idempotency key was used for another request; take a new key for a new request").at("header.Idempotency-Key")
	}
	if err := json.Unmarshal(row.Answer, out); err != nil {
		return true, fmt.Errorf("read what an earlier create answered: %w", err)
	}
	return true, nil
}

// once makes something, or tells what an earlier request with the same key made: the same record, without its secret.
func once[I, O any](ctx context.Context, s *Service, operation, key string, request *I, create func(context.Context, Actor, *I) (O, error)) (out O, replayed bool, err error) {
	who := actorOf(ctx)
	if key == "" {
		out, err = create(ctx, who, request)
		return out, false, err
	}
	c, err := newCreation(who, operation, key, request)
	if err != nil {
		return out, false, err
	}
	if found, err := s.remembered(ctx, c, &out); found || err != nil {
		return out, found, err
	}
	out, err = create(context.WithValue(ctx, creationKey{}, c), who, request)
	if err == nil {
		return out, false, nil
	}
	// An equal request may have been on its way, and what stands against this one is what that one made.
	var earlier O
	if found, again := s.remembered(ctx, c, &earlier); found {
		return earlier, true, again
	}
	return out, false, err
}

// Repeatable is the header of a create that says which request it is. It is exported because only such embedded fields are
// read from requests.
type Repeatable struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"255" doc:"any text that names this one request: sent again within 24 hours it makes nothing more"`
}

func (r Repeatable) idempotencyKey() string { return r.IdempotencyKey }

// Creating is a create as it is sent.
type Creating[I any] struct {
	Repeatable
	Body I
}

// replayedHeader marks the answer to a create that had been made before.
const replayedHeader = "Idempotent-Replayed"

// created is the answer to a create.
type created[O any] struct {
	Replayed string `header:"Idempotent-Replayed" enum:"true" doc:"the record was made by an earlier request with the same key; what is shown once is absent"`
	Body     O
}

// handleCreate registers an operation that makes something of its request's body alone.
func handleCreate[I, O any](a *api, r route, create func(context.Context, Actor, I) (O, error)) {
	handleOnce(a, r, func(ctx context.Context, who Actor, in *Creating[I]) (O, error) { return create(ctx, who, in.Body) })
}

// handleOnce registers an operation that makes something, once for each idempotency key.
func handleOnce[I interface{ idempotencyKey() string }, O any](a *api, r route, create func(context.Context, Actor, *I) (O, error)) {
	huma.Register(a.huma, a.operation(r), func(ctx context.Context, in *I) (*created[O], error) {
		out, replayed, err := once(ctx, a.s, r.id, (*in).idempotencyKey(), in, create)
		if err != nil {
			return nil, a.s.problem(r.id, err)
		}
		a.spread(ctx, r)
		answer := &created[O]{Body: out}
		if replayed {
			answer.Replayed = "true"
		}
		return answer, nil
	})
}
