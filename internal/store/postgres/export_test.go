package postgres

import (
	"context"
	"runtime"
	"testing"

	"github.com/keybrake/keybrake/internal/store"
)

// Die ends a node as a crash does: it says nothing to the others.
func (db *DB) Die() {
	db.closing.Do(func() {
		db.queue.Stop()
		db.beside.Wait()
		<-db.indexed
		_ = db.closeConnections()
	})
}

// TakeOver takes over from absent nodes now.
func (db *DB) TakeOver() error {
	done := make(chan error)
	for !db.queue.Aside(func() { done <- db.writer.takeOver() }) {
		runtime.Gosched()
	}
	return <-done
}

// SynchronousCommit is the setting on the connection that writes.
func (db *DB) SynchronousCommit(t testing.TB) (value string) {
	t.Helper()
	err := db.Update(t.Context(), store.LaneControl, func(u store.Tx) error {
		return u.(*tx).q.QueryRow(context.Background(), "SHOW synchronous_commit").Scan(&value)
	})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// QueuedCalls is how much work of calls waits for its turn.
func (db *DB) QueuedCalls() int {
	calls, _ := db.queue.Waiting()
	return calls
}

// CloseLost closes the parts of nodes that have ended without doing so, now.
func (db *DB) CloseLost() error {
	done := make(chan error)
	for !db.queue.Aside(func() { done <- db.writer.closeLost() }) {
		runtime.Gosched()
	}
	return <-done
}

// Label is what this node is called in the record.
func (db *DB) Label() string { return db.label }

// OnWire is how many calls this node takes to be on its wire.
func (db *DB) OnWire() int {
	n := make(chan int)
	for !db.queue.Aside(func() { n <- len(db.writer.mine) }) {
		runtime.Gosched()
	}
	return <-n
}
