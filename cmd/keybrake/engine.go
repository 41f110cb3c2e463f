package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/keybrake/keybrake/internal/cluster"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/vault"
)

// engine is a store as serve runs it.
type engine interface {
	store.DB
	SignHead(context.Context) error
	Archive(ctx context.Context, before time.Time) (int64, error)
	Figures() store.Figures
	Safety() store.Safety
}

// openStore opens the store and says whether it can forget.
func (s *server) openStore(ctx context.Context) error {
	if s.place.postgres == "" {
		db, err := sqlite.Open(ctx, sqlite.Options{
			Path: s.place.base, Signer: s.master, MasterCheck: s.master.CheckValue(), Wait: s.storeWait(), Archives: s.settings.AuditArchive,
			Observer: s.metrics.Store(),
		})
		if err != nil {
			return err
		}
		s.store, s.backup = db, db.Backup
		return nil
	}
	name := s.settings.Node
	if name == "" {
		name, _ = os.Hostname() // a node without a name is served as well
	}
	db, err := postgres.Open(ctx, postgres.Options{
		URL: s.place.postgres, Signer: s.master, MasterCheck: s.master.CheckValue(), Wait: s.storeWait(), Archives: s.place.archives(&s.settings),
		Mark: s.place.mark(), Node: name, Version: readVersion().Version, AllowUnsafe: s.settings.StoreUnsafe, Observer: s.metrics.Store(),
	})
	if err != nil {
		return err
	}
	s.store, s.shared = db, db
	if safety := db.Safety(); safety.Remembers {
		s.log.Info("store on PostgreSQL", "node", name, "safety", safety.Why)
	} else {
		s.log.Warn("store on PostgreSQL: it can forget", "node", name, "safety", safety.Why)
	}
	return nil
}

// openMaster reads the master key, or makes one for a store that is new.
func (s *server) openMaster(ctx context.Context) error {
	key := s.place.masterKey(&s.settings)
	there := exists(s.place.base)
	if s.place.postgres != "" && !exists(key) {
		var err error
		if there, err = postgres.Exists(ctx, s.place.postgres); err != nil {
			return err
		}
	}
	if there && !exists(key) {
		// A fresh master key could open nothing in this store, and would lie there as if it could.
		return fmt.Errorf("the store %s is there and its master key file %s is not; put a copy of it there, or name the right one with --master-key-file", s.place.show(), key)
	}
	var created bool
	var err error
	s.master, created, err = vault.LoadOrCreateMaster(key)
	if created {
		s.log.Info("made a master key; keep a copy of it away from the store", "file", key)
	}
	return err
}

func (p place) show() string {
	if p.postgres == "" {
		return p.base
	}
	shown, err := postgres.Place(p.postgres)
	if err != nil {
		return "on PostgreSQL"
	}
	return shown
}

// join makes this process a node among those that serve the store, if others can.
func (s *server) join(ctx context.Context) error {
	if s.shared == nil {
		return nil
	}
	s.member = cluster.New(cluster.Config{
		Store: s.shared, Lease: time.Duration(s.settings.Lease) * time.Millisecond, Log: s.log,
		Obeying: func() func(int64, []store.BrakeRow) { return s.admin.Obeying() },
		Follow:  func(ctx context.Context, c store.Changed) (bool, error) { return s.admin.Follow(ctx, c) },
		Calls:   func() (answered, inFlight int64) { return s.metrics.Answered(), s.ring.InFlight(vault.All) },
	})
	s.admin.Cluster = s.member
	s.gateway.Lease = s.member.Hold
	for until := time.Now().Add(joinWait); ; pause(ctx, joinAgain) {
		err := s.member.Look(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || time.Now().After(until) {
			return fmt.Errorf("join the nodes that serve the store: %w", err)
		}
	}
}

const (
	// joinWait is how long a start may take to get a first lease: a store that is busy, or just changing hands, comes back.
	joinWait  = 30 * time.Second
	joinAgain = 100 * time.Millisecond
)

// leadEvery is how often a node asks whether it does what one of them does for all.
const leadEvery = time.Second

// whileLeading runs something that one node does for all, as long as this is the one.
func (s *server) whileLeading(run func(context.Context)) func(context.Context) {
	if s.member == nil {
		return run
	}
	return func(ctx context.Context) {
		for ctx.Err() == nil {
			if s.member.Leads(ctx) {
				s.lead(ctx, run)
			}
			pause(ctx, leadEvery)
		}
	}
}

// lead runs something until another node does it, or ctx ends.
func (s *server) lead(ctx context.Context, run func(context.Context)) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() { run(ctx) })
	for ctx.Err() == nil {
		if pause(ctx, leadEvery); !s.member.Leads(ctx) {
			cancel()
		}
	}
	running.Wait()
}

// forAll runs what one node does for all.
func (s *server) forAll(ctx context.Context) {
	var running sync.WaitGroup
	for _, run := range []func(context.Context){s.signHeads, s.reconcile, s.archive} {
		running.Go(func() { run(ctx) })
	}
	running.Wait()
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
