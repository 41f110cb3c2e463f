package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store/codec"
	"github.com/keybrake/keybrake/internal/store/move"
)

// Fill moves another engine's store into an empty one: in one transaction, which is committed when the copy has proved to be
// what was read. Until then nobody sees any of it, and after an error there is nothing of it. from names the store that it
// came from, for the record. Of the options it needs URL, Signer, Archives and AllowUnsafe.
func Fill(ctx context.Context, o Options, from string, source move.Source) (*move.Proof, error) {
	config, err := parse(o.URL)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // what was committed is there
	set, err := readSettings(ctx, conn)
	if err != nil {
		return nil, err
	}
	if err := set.refuse(o.AllowUnsafe); err != nil {
		return nil, err
	}
	if err := migrate(ctx, config); err != nil {
		return nil, err
	}
	var proof *move.Proof
	err = pgx.BeginFunc(ctx, conn, func(pgx.Tx) (err error) {
		proof, err = (&filling{tx{ctx: ctx, q: conn, db: &DB{archives: o.Archives, clock: o.Clock}, writes: true}}).run(source, from, o.Signer)
		return err
	})
	if err != nil {
		return nil, err
	}
	_, _ = conn.Exec(ctx, `ANALYZE`) // PostgreSQL would come to it by itself
	return proof, nil
}

// filling is the transaction that fills a store.
type filling struct{ tx }

var _ move.Copy = (*filling)(nil)

func (f *filling) run(source move.Source, from string, signer audit.Signer) (*move.Proof, error) {
	var writes, server int64
	if _, err := f.q.Exec(f.ctx, `SET LOCAL statement_timeout = 0`); err != nil { // it takes what it takes
		return nil, err
	}
	if err := f.one(`SELECT writes FROM books WHERE one = 1 FOR UPDATE`, nil, &writes); err != nil {
		return nil, err
	}
	if err := f.one(clockSQL, nil, &server); err != nil {
		return nil, err
	}
	if err := f.empty(writes); err != nil {
		return nil, err
	}
	counts, err := f.copy(source)
	if err != nil {
		return nil, err
	}
	next, err := f.adopt(server)
	if err != nil {
		return nil, err
	}
	proof, err := move.Prove(f, counts, signer.PublicKey())
	if err != nil {
		return nil, fmt.Errorf("the copy is not what was read: %w", err)
	}
	_, err = f.Append(&audit.Record{
		Kind: audit.KindSystem, Action: "store.migrate", Subject: from,
		Reason: fmt.Sprintf("the records up to %d came from there; the last one's hash is %s", proof.Last, proof.Hash),
	})
	if err != nil {
		return nil, err
	}
	_, err = f.exec(moveSQL, 1, 1, f.chain.Seq, f.chain.Hash[:], codec.Micros(f.now), int64(next))
	return proof, err
}

// empty makes sure that nobody has used the store.
func (f *filling) empty(writes int64) error {
	if writes > 0 {
		return errors.New("the store to move to has been used; name an empty database")
	}
	var used []string
	for _, table := range append([]string{"nodes"}, tableNames()...) {
		query := `SELECT EXISTS (SELECT FROM ` + table + `)`
		if table == "meta" {
			query = `SELECT EXISTS (SELECT FROM meta WHERE name NOT IN ('indexed', 'compatible'))`
		}
		var some bool
		if err := f.one(query, nil, &some); err != nil {
			return err
		}
		if some {
			used = append(used, table)
		}
	}
	if len(used) > 0 {
		return fmt.Errorf("the store to move to is not empty (%s); name an empty database", strings.Join(used, ", "))
	}
	_, err := f.exec(`DELETE FROM meta WHERE name = 'indexed'`) // it comes with the others
	return err
}

func tableNames() (names []string) {
	for i := range move.Tables {
		names = append(names, move.Tables[i].Name)
	}
	return names
}

// copy writes all rows and counts them.
func (f *filling) copy(source move.Source) ([]move.Count, error) {
	var counts []move.Count
	for i := range move.Tables {
		table := &move.Tables[i]
		rows, count := move.Counted(table, source.Rows(table))
		next, stop := iter.Pull2(rows)
		columns, arriving := arrival(table)
		_, err := f.q.CopyFrom(f.ctx, pgx.Identifier{table.Name}, columns, pgx.CopyFromFunc(func() ([]any, error) {
			row, err, more := next()
			if !more || err != nil {
				return nil, err
			}
			return arriving(row)
		}))
		if stop(); err != nil {
			return nil, fmt.Errorf("copy %s: %w", table.Name, err)
		}
		counts = append(counts, *count)
	}
	return counts, nil
}

// arrival is how a row is written that comes from another engine: the columns that only this one has are filled in.
func arrival(table *move.Table) (columns []string, row func([]any) ([]any, error)) {
	for _, c := range table.Columns {
		columns = append(columns, c.Name)
	}
	switch table.Name {
	case "keys":
		live := len(columns) - 3
		return append(columns, "changed"), func(row []any) ([]any, error) {
			out := append(append([]any{}, row...), int64(1)) // the first change that there is
			out[live] = row[live] == int64(1)
			return out, nil
		}
	case "reservations": // nobody sends one any more: what was on the wire is unknown by now
		return append(columns, "node", "fingerprint"), func(row []any) ([]any, error) {
			r := codec.Reservation{ID: row[0].(int64), Key: row[1].(string), State: row[2].(int64), At: row[3].(int64), Fixed: row[5].([]byte), Moving: row[6].([]byte)}
			whole, err := r.Decode()
			if err != nil {
				return nil, err
			}
			return append(append([]any{}, row...), "", whole.Fingerprint[:]), nil
		}
	}
	return columns, func(row []any) ([]any, error) { return row, nil }
}

// adopt goes on from where the rows end, at the server's time or that of the last record. It returns the number of the next
// reservation.
func (f *filling) adopt(server int64) (next int64, err error) {
	last, err := f.entries(`ORDER BY seq DESC LIMIT 1`)
	if err != nil {
		return 0, err
	}
	f.chain, f.now = audit.NewChain(audit.FirstChain), time.UnixMicro(server).UTC()
	if len(last) > 0 {
		f.chain.Seq, f.chain.Hash = last[0].Seq, last[0].Hash
		if f.now.Before(last[0].At) {
			f.now = last[0].At
		}
	}
	made, err := f.LastReservation()
	return int64(made) + 1, err
}

// Rows implements move.Source.
func (f *filling) Rows(table *move.Table) iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		rows, err := f.q.Query(f.ctx, table.Select("place"))
		if err != nil {
			yield(nil, err)
			return
		}
		defer rows.Close()
		for rows.Next() {
			row, err := rows.Values()
			if err == nil {
				row, err = table.Row(row)
			}
			if !yield(row, err) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(nil, err)
		}
	}
}

// EachAccount implements move.Copy.
func (f *filling) EachAccount(each func(ledger.AccountKey, ledger.Account) error) error {
	rows, err := f.q.Query(f.ctx, `SELECT key, resource, per, unit, label, held, settled FROM accounts`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var k ledger.AccountKey
		var a ledger.Account
		var per, unit int64
		if err := rows.Scan(&k.Key, &k.Resource, &per, &unit, &k.Label, &a.Held, &a.Settled); err != nil {
			return err
		}
		k.Per, k.Unit = policy.Window(per), policy.Unit(unit)
		if err := each(k, a); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Place says where a connection string leads, without the password in it.
func Place(url string) (string, error) {
	config, err := parse(url)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("postgres://%s:%d/%s", config.Host, config.Port, config.Database), nil
}
