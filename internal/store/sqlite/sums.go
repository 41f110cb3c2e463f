package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"

	"modernc.org/sqlite"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
)

// Sums notice rows that are not as they were written, where nothing else in the store would: a bit that a disk lost in a
// key's expiry, or in the request that a retry will send. They are no proof against somebody who can write the file: that
// is the chain's.
//
// A reservation and an object carry the sums of their own rows. All rows that operators' actions write (keys, policies, upstreams, operators,
// tokens, brakes, rates, settings) share one: the sum of all their rows, which triggers keep up. So a row that is gone shows too.

// controlTables are the tables under the shared sum, with their columns in the order of the triggers (0003_sums.sql, 0005_people.sql).
var controlTables = map[string]string{
	"meta":      "name, value",
	"upstreams": "id, name, doc",
	"policies":  "digest, yaml",
	"keys":      "id, name, upstream, version, live, policy, doc",
	"tokens":    "name, digest, operator, role, created, expires",
	"operators": "id, name, role, issuer, subject, email, created, disabled",
	"brakes":    "scope, mode, reason, actor, at",
	"rates":     "currency, id, value, source, as_of",
}

func init() {
	// keybrake_row(table, column...) is the sum of one row; keybrake_add(a, b) and keybrake_take(a, b) add it to a total
	// and take it away, beyond 64 bits from the beginning again, where SQLite's own numbers become inexact. A total that
	// is not known yet stays so.
	sqlite.MustRegisterDeterministicScalarFunction("keybrake_row", -1, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		return rowSum(args)
	})
	// The sums of rows that were there before there were sums (0003_sums.sql).
	sqlite.MustRegisterDeterministicScalarFunction("keybrake_fixed_sum", 4, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		id, _ := args[0].(int64)
		key, _ := args[1].(string)
		at, _ := args[2].(int64)
		fixed, _ := args[3].([]byte)
		return fixedSum(id, key, at, fixed), nil
	})
	sqlite.MustRegisterDeterministicScalarFunction("keybrake_moving_sum", 3, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		id, _ := args[0].(int64)
		state, _ := args[1].(int64)
		moving, _ := args[2].([]byte)
		return movingSum(id, state, moving), nil
	})
	sqlite.MustRegisterDeterministicScalarFunction("keybrake_object_sum", 5, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		var k ledger.ObjectKey
		key, _ := args[0].(string)
		object, _ := args[1].(string)
		bucket, _ := args[2].(string)
		currency, _ := args[3].(string)
		doc, _ := args[4].([]byte)
		k.Key, k.Object, k.Bucket, k.Currency = policy.KeyID(key), policy.ObjectID(object), policy.Resource(bucket), money.Currency(currency)
		return objectSum(k, doc), nil
	})
	for name, sign := range map[string]int64{"keybrake_add": 1, "keybrake_take": -1} {
		sqlite.MustRegisterDeterministicScalarFunction(name, 2, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
			total, known := args[0].(int64)
			row, ok := args[1].(int64)
			if !known || !ok {
				return nil, nil
			}
			return total + sign*row, nil
		})
	}
}

// rowSum is 64 bits of a hash over values with their types and lengths, so that no two rows read alike.
func rowSum(values []driver.Value) (int64, error) {
	h := sha256.New()
	put := func(kind byte, b []byte) {
		var head [9]byte
		head[0] = kind
		binary.BigEndian.PutUint64(head[1:], uint64(len(b)))
		_, _ = h.Write(head[:]) // a hash takes everything
		_, _ = h.Write(b)
	}
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			put('n', nil)
		case int64:
			put('i', binary.BigEndian.AppendUint64(nil, uint64(v)))
		case string:
			put('t', []byte(v))
		case []byte:
			put('b', v)
		default:
			return 0, fmt.Errorf("sum of a row: a value of type %T", v)
		}
	}
	return int64(binary.BigEndian.Uint64(h.Sum(nil))), nil
}

// fixedSum and movingSum are a reservation's own. They are on the way of every call: a checksum that the processor knows.
func fixedSum(id int64, key string, at int64, fixed []byte) int64 {
	head := binary.BigEndian.AppendUint64(make([]byte, 0, 64), uint64(id))
	head = append(binary.BigEndian.AppendUint64(head, uint64(at)), key...)
	return int64(crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, fixed))
}

func movingSum(id, state int64, moving []byte) int64 {
	head := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(id))
	head = binary.BigEndian.AppendUint64(head, uint64(state))
	return int64(crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, moving))
}

func objectSum(k ledger.ObjectKey, doc []byte) int64 {
	head := fmt.Appendf(make([]byte, 0, 128), "%s\n%s\n%s\n%s\n", k.Key, k.Object, k.Bucket, k.Currency)
	return int64(crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, doc))
}

// decodeObject reads an object's row.
func decodeObject(k ledger.ObjectKey, doc []byte, sum sql.NullInt64) (ledger.Object, error) {
	var o ledger.Object
	if want := (sql.NullInt64{Int64: objectSum(k, doc), Valid: true}); sum != want {
		return o, fmt.Errorf("decode object %s: it is not as it was written", k.Object)
	}
	if err := json.Unmarshal(doc, &o); err != nil {
		return o, fmt.Errorf("decode object %s: %w", k.Object, err)
	}
	return o, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// whole reports whether a reservation's row is as it was written.
func (row *reservationRow) whole() bool {
	return row.fixedSum == sql.NullInt64{Int64: fixedSum(row.ID, row.Key, row.At, row.Fixed), Valid: true} &&
		row.movingSum == sql.NullInt64{Int64: movingSum(row.ID, row.State, row.Moving), Valid: true}
}

// controlSum works out the shared sum.
func controlSum(ctx context.Context, q rowsQueryer) (total int64, err error) {
	for table, columns := range controlTables {
		rows, err := q.QueryContext(ctx, "SELECT keybrake_row('"+table+"', "+columns+") FROM "+table)
		if err != nil {
			return 0, err
		}
		for rows.Next() {
			var n int64
			if err := rows.Scan(&n); err != nil {
				return 0, errors.Join(err, rows.Close())
			}
			total += n
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return 0, err
		}
	}
	return total, nil
}

// checkControl holds the shared sum against the rows. A store from before there were sums has none yet.
func (t *tx) checkControl() error {
	var kept sql.NullInt64
	if err := t.q.QueryRowContext(t.ctx, "SELECT value FROM sums WHERE name = 'control'").Scan(&kept); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	} else if err != nil {
		return damaged("the sum over keys, upstreams, brakes and settings is gone")
	}
	if !kept.Valid {
		return nil
	}
	total, err := controlSum(t.ctx, t.q)
	if err == nil && total != kept.Int64 {
		return damaged("a row of the keys, policies, upstreams, operators, tokens, brakes, rates or settings is not as it was written, or is gone")
	}
	return err
}

// beginSums makes the shared sum of a store that has none yet.
func (w *writer) beginSums(ctx context.Context) error {
	total, err := controlSum(ctx, w.conn)
	if err == nil {
		_, err = w.conn.ExecContext(ctx, "UPDATE sums SET value = ? WHERE name = 'control' AND value IS NULL", total)
	}
	if err != nil {
		return fmt.Errorf("sum up the rows: %w", err)
	}
	return nil
}
