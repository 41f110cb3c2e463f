package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/vault"
)

// engine is a store as the program needs it.
type engine interface {
	store.DB
	Figures() store.Figures
	Safety() store.Safety
}

// place is where a store is, and where this machine keeps what belongs to it.
type place struct {
	// file is that of an SQLite store, absolute. Empty: it is on PostgreSQL, at url.
	file, url string
	// beside is the path that the files beside the store begin with: the master key (.key), the mark (.mark), the KILL file
	// (.KILL), the archive files (.archive).
	beside string
}

// besideName is what the files in the data folder are called where the store is not a file.
const besideName = "keybrake"

// place reads --store, --data and --store-unsafe.
func (s *settings) place() (place, error) {
	if onPostgres(s.Store) {
		if _, err := postgres.Place(s.Store); err != nil {
			return place{}, fmt.Errorf("--store: %w", err)
		}
		folder, err := filepath.Abs(firstOf(s.Data, "."))
		if err != nil {
			return place{}, fmt.Errorf("--data %q: %w", s.Data, err)
		}
		return place{url: s.Store, beside: filepath.Join(folder, besideName)}, folderExists("--data", s.Data, folder)
	}
	name, ok := strings.CutPrefix(s.Store, "sqlite:")
	switch {
	case !ok || name == "":
		return place{}, fmt.Errorf("--store %q: write sqlite:FILE or postgres://USER@HOST/DATABASE", s.Store)
	case s.Data != "":
		return place{}, errors.New("--data is for a store on PostgreSQL; the files of an SQLite store lie beside it")
	case s.StoreUnsafe:
		return place{}, errors.New("--store-unsafe is for a store on PostgreSQL; SQLite always flushes")
	}
	path, err := filepath.Abs(name)
	if err != nil {
		return place{}, fmt.Errorf("--store %q: %w", s.Store, err)
	}
	return place{file: path, beside: path}, folderExists("--store", s.Store, filepath.Dir(path))
}

// onPostgres reports whether a store's name is a PostgreSQL connection string.
func onPostgres(store string) bool {
	return strings.HasPrefix(store, "postgres://") || strings.HasPrefix(store, "postgresql://")
}

func folderExists(flag, value, folder string) error {
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s %q: the folder %s does not exist; create it", flag, value, folder)
	}
	return nil
}

// masterKeyFile is where the master key of the store at a place is.
func (s *settings) masterKeyFile(at place) string { return firstOf(s.MasterKeyFile, at.beside+".key") }

// String is the place without a password.
func (p place) String() string {
	if p.file != "" {
		return p.file
	}
	shown, err := postgres.Place(p.url)
	if err != nil { // it was refused before
		return "PostgreSQL"
	}
	return shown
}

// made reports whether there is a store at the place.
func (p place) made(ctx context.Context) (bool, error) {
	if p.file != "" {
		return exists(p.file), nil
	}
	looked, err := postgres.Look(ctx, p.url)
	return looked.Made, err
}

func exists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() > 0
}

// openPlace finds (or with --dev makes) the place of the store and the master key.
func (s *server) openPlace(ctx context.Context) (err error) {
	if s.dev {
		dir, err := os.MkdirTemp("", "keybrake-dev-")
		if err != nil {
			return fmt.Errorf("make a temporary store: %w", err)
		}
		s.closers = append(s.closers, func() error { return os.RemoveAll(dir) })
		path := filepath.Join(dir, "keybrake.db")
		s.place = place{file: path, beside: path}
		s.master, err = vault.EphemeralMaster()
		return err
	}
	if s.place, err = s.settings.place(); err != nil {
		return err
	}
	key := s.settings.masterKeyFile(s.place)
	if !exists(key) {
		made, err := s.place.made(ctx)
		if err != nil {
			return err
		}
		if made {
			// A fresh master key could open nothing in this store, and would lie there as if it could.
			return fmt.Errorf("the store %s is there and its master key file %s is not; name the right one with --master-key-file", s.place, key)
		}
	}
	var created bool
	s.master, created, err = vault.LoadOrCreateMaster(key)
	if created {
		s.log.Info("made a master key; keep a copy of it away from the store", "file", key)
	}
	return err
}

// openStore opens the store at its place, and says what it can forget.
func (s *server) openStore(ctx context.Context) error {
	archives := firstOf(s.settings.AuditArchive, s.place.beside+".archive")
	level := slog.LevelInfo
	if s.place.file != "" {
		db, err := sqlite.Open(ctx, sqlite.Options{
			Path: s.place.file, Signer: s.master, MasterCheck: s.master.CheckValue(), Wait: s.storeWait(), Archives: archives,
			Observer: s.metrics.Store(),
		})
		if err != nil {
			return err
		}
		s.store, s.backup = db, db.Backup
	} else {
		node, err := s.settings.node()
		if err != nil {
			return err
		}
		db, err := postgres.Open(ctx, postgres.Options{
			URL: s.place.url, Signer: s.master, MasterCheck: s.master.CheckValue(), Wait: s.storeWait(), Archives: archives,
			Mark: s.place.beside + ".mark", Node: node, Version: readVersion().Version, AllowUnsafe: s.settings.StoreUnsafe,
			Observer: s.metrics.Store(),
		})
		if err != nil {
			return err
		}
		s.store = db
		if !db.Safety().Remembers {
			level = slog.LevelWarn
		}
	}
	s.closers = append(s.closers, s.store.Close, s.signLast)
	safety := s.store.Safety()
	s.log.Log(ctx, level, "store open", "at", s.place.String(), "survives_the_loss_of_a_machine", safety.Remembers, "because", safety.Why)
	return nil
}

// node is the name of this machine among those that serve the store.
func (s *settings) node() (string, error) {
	if s.Node != "" {
		return s.Node, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find this machine's name: %w; give --node", err)
	}
	return name, nil
}
