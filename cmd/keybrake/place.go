package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/keybrake/keybrake/internal/admin"
)

// place is where a store is, and where what belongs to it and is not in it lies.
type place struct {
	// postgres is a connection string; empty: the store is a file.
	postgres string
	// base is the store's file. Of a store on PostgreSQL there is none, but what would lie beside it has its names from it:
	// the master key, this node's mark, the KILL file, the archive files.
	base string
}

// dataName is what base is called in the data folder.
const dataName = "keybrake"

// place reads --store and --data.
func (s *settings) place() (place, error) {
	if !strings.HasPrefix(s.Store, "postgres://") && !strings.HasPrefix(s.Store, "postgresql://") {
		path, err := s.storePath()
		return place{base: path}, err
	}
	folder, err := filepath.Abs(s.Data)
	if err != nil {
		return place{}, fmt.Errorf("--data %q: %w", s.Data, err)
	}
	if err := folderExists("--data", folder); err != nil {
		return place{}, err
	}
	return place{postgres: s.Store, base: filepath.Join(folder, dataName)}, nil
}

// storePath is the file of an embedded store, absolute.
func (s *settings) storePath() (string, error) {
	name, ok := strings.CutPrefix(s.Store, "sqlite:")
	if !ok || name == "" {
		return "", fmt.Errorf("--store %q: write sqlite:FILE, or postgres://USER@HOST/DATABASE", s.showStore())
	}
	path, err := filepath.Abs(name)
	if err != nil {
		return "", fmt.Errorf("--store %q: %w", s.Store, err)
	}
	return path, folderExists("--store", filepath.Dir(path))
}

// showStore is --store without a password.
func (s *settings) showStore() string {
	if u, err := url.Parse(s.Store); err == nil {
		return u.Redacted()
	}
	return "..." // whatever it is, there may be one in it
}

func folderExists(flag, folder string) error {
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: the folder %s does not exist; create it", flag, folder)
	}
	return nil
}

// masterKey is the file of the master key, mark the one of how far this node knows the record, archives the folder of archive
// files, and killFile is where a stop can be left.
func (p place) masterKey(s *settings) string { return firstOf(s.MasterKeyFile, p.base+".key") }
func (p place) mark() string                 { return p.base + ".mark" }
func (p place) archives(s *settings) string  { return firstOf(s.AuditArchive, p.base+".archive") }
func (p place) killFile() string             { return admin.KillFilePath(p.base) }
