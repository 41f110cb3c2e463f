// Package move takes a store from one engine to another and proves that it arrived: which tables there are, what a row is
// whatever the engine, and what must be true of the copy. Engines give rows (Source) and take them.
package move

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"iter"
	"strings"

	"github.com/keybrake/keybrake/internal/store/codec"
)

// Kind is what a column holds.
type Kind uint8

// The kinds. A column that may be NULL is nil there.
const (
	Number Kind = iota // int64
	Text               // string, as every engine can hold it (codec.Text)
	Bytes              // []byte
)

// Column is one column of a table.
type Column struct {
	Name string
	Kind Kind
}

// Table is a table that moves. Both engines have it, with these columns among others.
type Table struct {
	Name    string
	Columns []Column
	// Order is the columns that order its rows, bytewise, separated by commas. Rows of keys come oldest first instead: that
	// order is nowhere else.
	Order string
	// Where selects the rows that move; empty = all.
	Where string
}

// Tables are what moves, in an order in which no row refers to one that is not there yet. The search index is among them:
// it knows how records in archives are found. What makes a store itself stays: its identity, its schema.
var Tables = []Table{
	table("meta", "name value", "name", `name NOT IN ('identity', 'compatible', 'archiving')`),
	table("upstreams", "id name doc*", "id", ""),
	table("policies", "digest yaml*", "digest", ""),
	table("keys", "id name upstream version# live# policy doc*", "", ""),
	table("brakes", "scope mode# reason actor at#", "scope", ""),
	table("rates", "currency id value# source as_of#", "currency", ""),
	table("accounts", "key resource per# unit# label held# settled#", "key, resource, per, unit, label", ""),
	table("objects", "object* key bucket currency doc*", "object, key, bucket, currency", ""),
	table("reservations", "id# key state# at# idem* fixed* moving*", "id", ""),
	table("audit", "seq# at# key call# hash* body*", "seq", ""),
	table("audit_by_key", "key seq#", "key, seq", ""),
	table("audit_by_call", "call# seq#", "call, seq", ""),
	table("heads", "seq# doc*", "seq", ""),
	table("archives", "first# last# hash* begun# ended# file", "first", ""),
	table("operators", "id name role issuer subject email created# disabled#", "id", ""),
	table("tokens", "name digest* operator role created# expires# used#", "name", ""),
	table("passes", "digest* kind operator token created# seen# expires# origin agent", "digest", ""),
	table("creations", "digest* request* answer* at#", "digest", ""),
	table("alerts", "id kind subject key severity title text first# last# resolved# told# told_severity acked# acked_by", "id", ""),
	table("messages", "id target body* created# due# attempts# done# error", "id", ""),
}

// table reads the columns of a table: name# is a number, name* bytes, name a text.
func table(name, columns, order, where string) Table {
	t := Table{Name: name, Order: order, Where: where}
	for c := range strings.FieldsSeq(columns) {
		kind := Text
		switch c[len(c)-1] {
		case '#':
			kind = Number
		case '*':
			kind = Bytes
		}
		t.Columns = append(t.Columns, Column{strings.TrimRight(c, "#*"), kind})
	}
	return t
}

// Names are the names of the columns, separated by commas.
func (t *Table) Names() string {
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = c.Name
	}
	return strings.Join(names, ", ")
}

// Select is the query for a table's rows, given the column that orders keys.
func (t *Table) Select(oldest string) string {
	query := "SELECT " + t.Names() + " FROM " + t.Name
	if t.Where != "" {
		query += " WHERE " + t.Where
	}
	if t.Order == "" {
		return query + " ORDER BY " + oldest
	}
	return query + " ORDER BY " + t.Order
}

// Row makes a row of what a driver scanned: numbers, texts and bytes in whichever form it gives them.
func (t *Table) Row(scanned []any) ([]any, error) {
	row := make([]any, len(scanned))
	for i, v := range scanned {
		var err error
		if row[i], err = t.Columns[i].value(v); err != nil {
			return nil, fmt.Errorf("%s.%s: %w", t.Name, t.Columns[i].Name, err)
		}
	}
	return row, nil
}

func (c *Column) value(v any) (any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case int64:
		if c.Kind == Number {
			return v, nil
		}
	case bool:
		if c.Kind == Number && v {
			return int64(1), nil
		} else if c.Kind == Number {
			return int64(0), nil
		}
	case string:
		switch c.Kind {
		case Text:
			return codec.Text(v), nil
		case Bytes:
			return []byte(v), nil
		}
	case []byte:
		switch c.Kind {
		case Text:
			return codec.Text(string(v)), nil
		case Bytes:
			return append([]byte{}, v...), nil
		}
	}
	return nil, fmt.Errorf("unexpected %T", v)
}

// Source gives a store's rows, all of them as of one moment.
type Source interface {
	// Rows reads a table in its order, each row as Table.Row makes it.
	Rows(t *Table) iter.Seq2[[]any, error]
}

// Count is how many rows a table has, and a digest of all of them in their order.
type Count struct {
	Table  string `json:"table"`
	Rows   int64  `json:"rows"`
	Digest string `json:"sha256"` // hex
}

// Counted passes the rows on and counts them; the count is right once they have all been read.
func Counted(t *Table, rows iter.Seq2[[]any, error]) (iter.Seq2[[]any, error], *Count) {
	count := &Count{Table: t.Name}
	return func(yield func([]any, error) bool) {
		sum := sha256.New()
		for row, err := range rows {
			if err == nil {
				count.Rows++
				add(sum, row)
			}
			if !yield(row, err) {
				return
			}
		}
		count.Digest = fmt.Sprintf("%x", sum.Sum(nil))
	}, count
}

// add adds a row to a digest. A text and the same bytes count alike: which of them a column holds is the engine's matter.
func add(sum hash.Hash, row []any) {
	var b []byte
	for _, v := range row {
		switch v := v.(type) {
		case nil:
			b = append(b, 0)
		case int64:
			b = binary.BigEndian.AppendUint64(append(b, 1), uint64(v))
		case string:
			b = append(binary.BigEndian.AppendUint64(append(b, 2), uint64(len(v))), v...)
		case []byte:
			b = append(binary.BigEndian.AppendUint64(append(b, 2), uint64(len(v))), v...)
		}
	}
	sum.Write(b)
}

// CountAll reads and counts all tables of a store.
func CountAll(s Source) ([]Count, error) {
	var out []Count
	for i := range Tables {
		rows, count := Counted(&Tables[i], s.Rows(&Tables[i]))
		for _, err := range rows {
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", Tables[i].Name, err)
			}
		}
		out = append(out, *count)
	}
	return out, nil
}
