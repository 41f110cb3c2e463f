package postgres

import (
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
)

// Each node has a part in the one record: it begins with the node's first transaction and is closed by the node when it
// leaves, or by another one when it is lost. A node that was given up and is back begins another part. All of it is written
// under the lock of books, so that no record of a node lies outside its parts, and verification says so if one does.

// labelLength bounds an operator's name in a label, in characters: a record would cut a longer one and the end of the node's own
// name with it.
const labelLength = 60

// labelOf is what a node is called in the record: the operator's name for it and the end of its own, which no other process
// has. Without a name nothing of parts is written. What a record would write otherwise than it is becomes a hyphen.
func labelOf(named, node string) string {
	if named == "" {
		return ""
	}
	plain := []rune(named)
	plain = plain[:min(len(plain), labelLength)]
	for i, c := range plain {
		if c == '"' || c == '\\' || c == utf8.RuneError || !unicode.IsPrint(c) {
			plain[i] = '-'
		}
	}
	return string(plain) + "/" + node[len(node)-6:]
}

// readPart reads, in a transaction that has the lock, whether this node's part is open.
func (db *DB) readPart(b *pgx.Batch, l *locked) {
	if db.label == "" {
		return
	}
	l.outside = true
	b.Queue(`SELECT open FROM nodes WHERE id = $1`, db.node).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var open bool
			if err := rows.Scan(&open); err != nil {
				return err
			}
			l.outside = !open
		}
		return rows.Err()
	})
}

// joining is the record that begins this node's part.
func (db *DB) joining() *audit.Record {
	return &audit.Record{
		Kind: audit.KindSystem, Action: audit.ActionNodeJoin, Subject: db.label,
		Reason: fmt.Sprintf("%s, version %s", db.node, db.version),
	}
}

// openPart is the statement that goes with joining.
const openPart = `INSERT INTO nodes (id, name, version, started, alive, seen, braked, control, lease, calls, in_flight, ended, label, open)
	VALUES ($1, $2, $3, ` + serverMicros + `, ` + serverMicros + `, 0, 0, 0, 0, 0, 0, 0, $4, true)
	ON CONFLICT (id) DO UPDATE SET label = excluded.label, alive = excluded.alive, ended = 0, open = true`

func (db *DB) openPartValues() []any {
	return []any{db.node, text(db.named), text(db.version), text(db.label)}
}

// join begins this node's part.
func (t *tx) join() error {
	if _, err := t.exec(openPart, t.db.openPartValues()...); err != nil {
		return fmt.Errorf("begin this node's part in the record: %w", err)
	}
	_, err := t.Append(t.db.joining())
	return err
}

// closeLost closes the parts of other nodes that have ended without doing so. This one, which others may have given up, says
// itself that it is there.
func (w *writer) closeLost() error {
	return w.Control(store.LaneControl, func(u store.Tx) error {
		t := u.(*tx)
		lost, err := listed(t, pgx.RowTo[string], `UPDATE nodes SET open = false WHERE open AND ended > 0 AND id <> $1 RETURNING label`, w.db.node)
		if err != nil {
			return fmt.Errorf("close the parts of lost nodes: %w", err)
		}
		for _, label := range lost {
			if _, err := t.Append(&audit.Record{Kind: audit.KindSystem, Action: audit.ActionNodeLost, Subject: label}); err != nil {
				return err
			}
		}
		return nil
	})
}

// closeOwn says that this node leaves.
func (w *writer) closeOwn() error {
	return w.Control(store.LaneControl, func(u store.Tx) error {
		t := u.(*tx)
		if _, err := t.exec(`UPDATE nodes SET ended = `+serverMicros+`, open = false WHERE id = $1`, w.db.node); err != nil {
			return fmt.Errorf("say goodbye: %w", err)
		}
		_, err := t.Append(&audit.Record{Kind: audit.KindSystem, Action: audit.ActionNodeLeave, Subject: w.db.label})
		return err
	})
}
