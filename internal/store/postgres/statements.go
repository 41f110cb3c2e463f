package postgres

import (
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/codec"
)

// accountColumns are the columns of running totals' names, each as an array.
type accountColumns struct {
	keys, resources, labels []string
	pers, units             []int64
}

func accountColumnsOf(keys []ledger.AccountKey) accountColumns {
	var c accountColumns
	for _, k := range keys {
		c.add(k)
	}
	return c
}

func (c *accountColumns) add(k ledger.AccountKey) {
	c.keys, c.resources, c.labels = append(c.keys, string(k.Key)), append(c.resources, string(k.Resource)), append(c.labels, k.Label)
	c.pers, c.units = append(c.pers, int64(k.Per)), append(c.units, int64(k.Unit))
}

// queueWrites queues the statements that write what a batch decided, each for all of its rows.
func queueWrites(b *pgx.Batch, batch *store.Batch, c ledger.Changes, node string) error {
	queueEntries(b, batch.Entries)
	if err := queueReservations(b, c, node); err != nil {
		return err
	}
	queueTotals(b, c)
	if err := queueObjects(b, c); err != nil {
		return err
	}
	for _, row := range batch.Freezes {
		queueBrake(b, row)
	}
	return nil
}

func queueEntries(b *pgx.Batch, entries []audit.Entry) {
	if len(entries) == 0 {
		return
	}
	n := len(entries)
	seqs, ats, calls := make([]int64, n), make([]int64, n), make([]int64, n)
	keys, hashes, bodies := make([]string, n), make([][]byte, n), make([][]byte, n)
	for i := range entries {
		e := &entries[i]
		seqs[i], ats[i], keys[i], calls[i], hashes[i], bodies[i] = e.Seq, codec.Micros(e.At), string(e.Key), e.Call, e.Hash[:], e.Bytes
	}
	b.Queue(`INSERT INTO audit (seq, at, key, call, hash, body)
		SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bytea[], $6::bytea[])`,
		seqs, ats, keys, calls, hashes, bodies)
}

// reservationRows are reservations' columns, each as an array.
type reservationRows struct {
	ids, states, ats             []int64
	keys                         []string
	idems, prints, fixed, moving [][]byte
}

func (rows *reservationRows) add(r *ledger.Reservation) error {
	moving, err := codec.EncodeMoving(r)
	if err != nil {
		return err
	}
	var idem []byte // NULL
	if value, attaches := codec.Idem(r); attaches {
		idem = []byte(value)
	}
	rows.ids, rows.states, rows.idems, rows.moving = append(rows.ids, int64(r.ID)), append(rows.states, int64(r.State)), append(rows.idems, idem), append(rows.moving, moving)
	return nil
}

// queueReservations writes changed reservations first: one of them may let go of the idempotency key that a new one takes.
func queueReservations(b *pgx.Batch, c ledger.Changes, node string) error {
	var changed, made reservationRows
	for _, r := range c.Updated {
		if err := changed.add(r); err != nil {
			return fmt.Errorf("encode reservation %d: %w", r.ID, err)
		}
	}
	if len(c.Updated) > 0 {
		b.Queue(`UPDATE reservations r SET state = n.state, idem = n.idem, moving = n.moving
			FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[]) AS n(id, state, idem, moving) WHERE r.id = n.id`,
			changed.ids, changed.states, changed.idems, changed.moving)
	}
	for _, r := range c.Created {
		fixed, err := codec.EncodeFixed(r)
		if err == nil {
			err = made.add(r)
		}
		if err != nil {
			return fmt.Errorf("encode reservation %d: %w", r.ID, err)
		}
		made.keys, made.ats = append(made.keys, string(r.Key)), append(made.ats, codec.Micros(r.At))
		made.prints, made.fixed = append(made.prints, r.Fingerprint[:]), append(made.fixed, fixed)
	}
	if len(c.Created) > 0 {
		b.Queue(`INSERT INTO reservations (id, key, state, at, node, idem, fingerprint, fixed, moving)
			SELECT n.id, n.key, n.state, n.at, $1, n.idem, n.fingerprint, n.fixed, n.moving
			FROM unnest($2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bytea[], $7::bytea[], $8::bytea[], $9::bytea[])
			AS n(id, key, state, at, idem, fingerprint, fixed, moving)`,
			node, made.ids, made.keys, made.states, made.ats, made.idems, made.prints, made.fixed, made.moving)
	}
	return nil
}

func queueTotals(b *pgx.Batch, changes ledger.Changes) {
	if len(changes.Accounts) == 0 {
		return
	}
	var c accountColumns
	var held, settled []int64
	for k, a := range changes.Accounts {
		c.add(k)
		held, settled = append(held, a.Held), append(settled, a.Settled)
	}
	b.Queue(`INSERT INTO accounts (key, resource, per, unit, label, held, settled)
		SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[])
		ON CONFLICT (key, resource, per, unit, label) DO UPDATE SET held = excluded.held, settled = excluded.settled`,
		c.keys, c.resources, c.pers, c.units, c.labels, held, settled)
}

func queueObjects(b *pgx.Batch, changes ledger.Changes) error {
	if len(changes.Objects) == 0 {
		return nil
	}
	var c objectColumns
	var docs [][]byte
	for k, o := range changes.Objects {
		doc, err := json.Marshal(o)
		if err != nil {
			return fmt.Errorf("encode object %v: %w", k, err)
		}
		c.add(k)
		docs = append(docs, doc)
	}
	b.Queue(`INSERT INTO objects (key, object, bucket, currency, doc)
		SELECT * FROM unnest($1::text[], $2::bytea[], $3::text[], $4::text[], $5::bytea[])
		ON CONFLICT (object, key, bucket, currency) DO UPDATE SET doc = excluded.doc`,
		c.keys, c.objects, c.buckets, c.currencies, docs)
	return nil
}

func queueBrake(b *pgx.Batch, row store.BrakeRow) {
	b.Queue(putBrake, row.Scope, int64(row.Mode), text(row.Reason), row.Actor, codec.Micros(row.At))
}
