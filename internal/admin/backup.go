package admin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
)

// Headers of a backup's answer.
const (
	headerBackupSeq = "Keybrake-Backup-Seq"
	headerBackupSum = "Keybrake-Backup-Sha256"
)

// Backup is a copy of the store, ready to be sent. Remove it in the end.
type Backup struct {
	folder, path string
	Size         int64
	Seq          int64  // number of the last record in it
	SHA256       string // of the file, in hex
}

// PrepareBackup makes a copy of the store beside it, and records that. Nobody names a file of the server's: the copy goes to
// whoever asked for it.
func (s *Service) PrepareBackup(ctx context.Context, who Actor) (_ *Backup, err error) {
	if s.Config.Backup == nil {
		return nil, refuse(Unavailable, "this server's store is not a file: back it up with PostgreSQL's own means (docs/operating.md#postgresql)")
	}
	folder, err := os.MkdirTemp(s.BackupFolder, ".keybrake-backup-")
	if err != nil {
		return nil, fmt.Errorf("make room for the backup: %w", err)
	}
	b := &Backup{folder: folder, path: filepath.Join(folder, "keybrake.db")}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Remove())
		}
	}()
	if b.Seq, err = s.Config.Backup(ctx, b.path); err != nil {
		return nil, err
	}
	if err := b.sum(); err != nil {
		return nil, err
	}
	err = s.act(ctx, store.LaneControl, who, "backup", func(_ store.Tx, rec *audit.Record) error {
		rec.Subject = "store"
		rec.Diff = fmt.Sprintf("up to record %d\n%d bytes\nsha256 %s", b.Seq, b.Size, b.SHA256)
		return nil
	})
	return b, err
}

func (b *Backup) sum() error {
	f, err := os.Open(b.path)
	if err != nil {
		return fmt.Errorf("read the backup: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	h := sha256.New()
	if b.Size, err = io.Copy(h, f); err != nil {
		return fmt.Errorf("read the backup: %w", err)
	}
	b.SHA256 = hex.EncodeToString(h.Sum(nil))
	return nil
}

// WriteTo sends the copy.
func (b *Backup) WriteTo(w io.Writer) (int64, error) {
	f, err := os.Open(b.path)
	if err != nil {
		return 0, fmt.Errorf("read the backup: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	return io.Copy(w, f)
}

// Remove takes the copy away from the server.
func (b *Backup) Remove() error { return os.RemoveAll(b.folder) }

func (a *api) backup(ctx context.Context, who Actor, _ *none) (string, writing, error) {
	b, err := a.s.PrepareBackup(ctx, who)
	if err != nil {
		return "", nil, err
	}
	return sqliteFile, func(_ context.Context, w http.ResponseWriter) error {
		w.Header().Set("Content-Length", strconv.FormatInt(b.Size, 10))
		w.Header().Set(headerBackupSeq, strconv.FormatInt(b.Seq, 10))
		w.Header().Set(headerBackupSum, b.SHA256)
		_, err := b.WriteTo(w)
		return errors.Join(err, b.Remove())
	}, nil
}

// BackedUp is what a backup came to.
type BackedUp struct {
	File   string `json:"file"`
	Size   int64  `json:"size"`
	Seq    int64  `json:"last_record" doc:"number of the last audit record in it"`
	SHA256 string `json:"sha256"`
}

// Backup writes a copy of the server's store to w. An error after the first byte means that it is not whole.
func (c *Client) Backup(ctx context.Context, w io.Writer) (BackedUp, error) {
	var out BackedUp
	resp, err := c.send(ctx, http.MethodPost, "backup", nil, "", nil)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	h := sha256.New()
	if out.Size, err = io.Copy(io.MultiWriter(w, h), resp.Body); err != nil {
		return out, fmt.Errorf("%w: its answer broke off: %w", ErrUnreachable, err)
	}
	if out.SHA256 = hex.EncodeToString(h.Sum(nil)); out.SHA256 != resp.Header.Get(headerBackupSum) {
		return out, fmt.Errorf("%w: what came is not what was sent", ErrUnreachable)
	}
	out.Seq, err = strconv.ParseInt(resp.Header.Get(headerBackupSeq), 10, 64)
	return out, err
}
