package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/upstream/stripe"
	"github.com/keybrake/keybrake/internal/vault"
)

// How much goes into one transaction when a large store is made.
const (
	keysPerTransaction = 5_000
	rowsPerTransaction = 20_000
	// fillWait is for the disk of a machine that does much else.
	fillWait = 5 * time.Minute
)

// books is a store with its master key, opened while no server runs on it.
type books struct {
	dir    string
	store  *sqlite.DB
	master *vault.Master
	admin  *admin.Service
}

func storePath(dir string) string { return filepath.Join(dir, "keybrake.db") }

func openBooks(ctx context.Context, dir string) (*books, error) {
	b := &books{dir: dir}
	var err error
	if b.master, _, err = vault.LoadOrCreateMaster(storePath(dir) + ".key"); err != nil {
		return nil, err
	}
	adapter, err := stripe.New()
	if err != nil {
		return nil, err
	}
	if b.store, err = sqlite.Open(ctx, sqlite.Options{
		Path: storePath(dir), Signer: b.master, MasterCheck: b.master.CheckValue(), Wait: fillWait,
	}); err != nil {
		return nil, err
	}
	b.admin = admin.New(admin.Config{
		Store: b.store, Ring: vault.NewRing(b.master), Vocabulary: adapter.Catalog().Vocabulary(),
		Version: stripe.DefaultVersion, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if _, err := b.admin.Load(ctx); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *books) close() error {
	b.admin.Close()
	return b.store.Close()
}

func fill(args []string) error {
	flags := flag.NewFlagSet("fill", flag.ContinueOnError)
	dir := flags.String("dir", "", "folder of the store")
	keys := flags.Int("keys", 100_000, "vault keys, made from the presets in turn")
	rows := flags.Int("rows", 5_000_000, "audit records")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return fillStore(context.Background(), *dir, *keys, *rows)
}

// fillStore brings a store to so many keys and records, in large transactions through the store's own
// verbs: every record is chained, every key is one that could be used. It goes on where it ended.
func fillStore(ctx context.Context, dir string, keys, rows int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	b, err := openBooks(ctx, dir)
	if err != nil {
		return err
	}
	err = b.fillKeys(ctx, keys)
	if err == nil {
		err = b.fillRecords(ctx, rows)
	}
	return errors.Join(err, b.close())
}

// fillKeys makes keys of the presets in turn, all of one upstream.
func (b *books) fillKeys(ctx context.Context, want int) error {
	have := len(b.admin.Ring.Keys())
	if have >= want {
		return nil
	}
	up, err := b.upstream(ctx, "https://api.stripe.com")
	if err != nil {
		return err
	}
	type preset struct {
		policy *policy.Policy
		yaml   []byte
		digest string
	}
	var presets []preset
	for _, p := range policy.Presets() {
		parsed, _, err := policy.ParseEdited(p.Name, p.YAML, b.admin.Vocabulary, policy.Edit{Name: "agent-bench-" + p.Name, Customers: &policy.Customers{Any: true}})
		if err != nil {
			return err
		}
		parsed.Name = "" // a key's name is in its row, so that keys share policies
		presets = append(presets, preset{parsed, policy.Format(parsed), policy.Digest(parsed)})
	}
	for have < want {
		to := min(have+keysPerTransaction, want)
		err := b.store.Update(ctx, store.LaneControl, func(tx store.Tx) error {
			for i := have; i < to; i++ {
				p := presets[i%len(presets)]
				_, digest, last4 := b.master.Mint(vault.Test)
				row, err := store.EncodeKey(&vault.Key{
					ID: vault.NewKeyID(), Name: fmt.Sprintf("agent-bench-filler-runner%d", i), Upstream: up, Mode: vault.Test,
					Policy: p.policy, PolicyDigest: p.digest, Created: tx.Now(),
					Credentials: []vault.Credential{{Digest: digest, Last4: last4, Created: tx.Now()}},
				}, p.yaml, p.digest)
				if err != nil {
					return err
				}
				if _, err := tx.PutKey(row); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("make keys: %w", err)
		}
		have = to
	}
	_, err = b.admin.Load(ctx)
	return err
}

// fillRecords writes pairs of records like those of a settled call, spread over all keys.
func (b *books) fillRecords(ctx context.Context, want int) error {
	var have int64
	err := b.store.View(ctx, func(tx store.Tx) (err error) {
		have, _, err = tx.Height()
		return err
	})
	if err != nil {
		return err
	}
	keys := b.admin.Ring.Keys()
	for n := 0; have < int64(want); {
		records := make([]*audit.Record, 0, rowsPerTransaction)
		for range rowsPerTransaction / 2 {
			k := keys[n*7919%len(keys)] // a prime: neighbours in time are not neighbours in the index
			n++
			records = append(records, pairOfRecords(k, have+int64(len(records))+1)...)
		}
		entries, err := b.store.Log(ctx, records...)
		if err != nil {
			return fmt.Errorf("write records: %w", err)
		}
		have = entries[len(entries)-1].Seq
		if err := b.store.IndexNow(); err != nil {
			return fmt.Errorf("index records: %w", err)
		}
	}
	return b.store.SignHead(ctx)
}

// pairOfRecords is an intent, to be number seq, and its outcome.
func pairOfRecords(k *vault.Key, seq int64) []*audit.Record {
	base := audit.Record{
		Key: k.ID, KeyName: k.Name, Upstream: k.Upstream, Mode: "test", Policy: k.PolicyDigest,
		From: "10.0.0.7", UserAgent: "Stripe/v1 GoBindings/84.0.0", RunID: "run-1",
		Request: "req_kbABCDEFGHIJKLMNOPQRSTUVWXYZ", Operation: "refunds.create", Method: "POST", Route: "/v1/refunds",
		Effects: []audit.Effect{{
			Bucket: "refunds", Amount: money.Amount{Minor: 2000, Currency: "usd"}, USD: 20 * money.Dollar, Rate: "usd",
		}},
		Reservation: seq, OursMicros: 950,
	}
	intent, outcome := base, base
	intent.Kind, intent.Verdict = audit.KindIntent, policy.Allow.String()
	intent.Caps = []audit.Cap{{
		Resource: "refunds", Per: "day", Limit: int64(500 * money.Dollar), Held: int64(20 * money.Dollar), Left: int64(480 * money.Dollar),
		ResetsAt: time.Date(2027, 1, 2, 0, 0, 0, 0, time.UTC),
	}}
	outcome.Kind, outcome.Ref, outcome.Fate, outcome.Status, outcome.UpstreamStatus = audit.KindOutcome, seq, "moved", 200, 200
	outcome.UpstreamRequest, outcome.TheirsMicros = "req_ABCDEFGHIJKLMN", 120_000
	return []*audit.Record{&intent, &outcome}
}

// upstream adds an upstream with a secret that the sandbox takes.
func (b *books) upstream(ctx context.Context, base string) (policy.UpstreamID, error) {
	up, err := b.admin.AddUpstream(ctx, admin.Actor{Name: "bench"}, admin.UpstreamRequest{
		Name: fmt.Sprintf("bench-%d", time.Now().UnixMilli()), Secret: secret, BaseURL: base,
	})
	return policy.UpstreamID(up.ID), err
}

// key makes a vault key of the upstream from a policy with room for its own number and the upstream's name.
func (b *books) key(ctx context.Context, yaml string, up policy.UpstreamID) (admin.KeyCreated, error) {
	u, ok := b.admin.Ring.Upstream(up)
	if !ok {
		return admin.KeyCreated{}, fmt.Errorf("no upstream %s", up)
	}
	return b.admin.CreateKey(ctx, admin.Actor{Name: "bench"}, admin.KeyRequest{
		PolicyEdit: admin.PolicyEdit{Policy: fmt.Sprintf(yaml, time.Now().UnixMilli(), u.Name), PolicyFile: "bench.yaml"},
	})
}
