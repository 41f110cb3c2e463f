package secretstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/keybrake/keybrake/internal/vault"
)

// file is a folder with a file for each label, mode 0600, each with a secret and nothing else.
type file struct{ path string }

func newFile(p *Place) (store, error) {
	switch {
	case !filepath.IsAbs(p.Path):
		return nil, fmt.Errorf("path %q: write an absolute path, like /etc/agents/{label}.key", p.Path)
	case strings.Contains(filepath.Dir(p.Path), "{"):
		return nil, fmt.Errorf("path %q: the label may be part of the file's name only", p.Path)
	}
	return &file{filepath.Clean(p.Path)}, nil
}

func (f *file) at(label string) (folder, name string, err error) {
	if strings.Contains(label, "/") {
		return "", "", fmt.Errorf("the label %q has a / in it, so it cannot be part of a file's name", label)
	}
	return filepath.Dir(f.path), fill(filepath.Base(f.path), label), nil
}

// enter opens the folder, if nobody else can change what is in it.
func (f *file) enter(label string) (*os.Root, string, error) {
	folder, name, err := f.at(label)
	if err != nil {
		return nil, "", err
	}
	if info, err := os.Lstat(folder); err != nil {
		return nil, "", err
	} else if info.Mode()&fs.ModeSymlink != 0 {
		return nil, "", fmt.Errorf("the folder %s is a symbolic link; write where it leads to", folder)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, "", err
	}
	if err := f.safe(root, folder, name); err != nil {
		_ = root.Close() // it was only looked at
		return nil, "", err
	}
	return root, name, nil
}

func (f *file) safe(root *os.Root, folder, name string) error {
	info, err := root.Stat(".")
	switch {
	case err != nil:
		return err
	case !ours(info):
		return fmt.Errorf("the folder %s belongs to somebody else", folder)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("others may write into the folder %s; chmod go-w it", folder)
	}
	info, err = root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is no regular file, so it is not replaced", filepath.Join(folder, name))
	}
	return nil
}

func (f *file) ready(_ context.Context, label string) error {
	root, _, err := f.enter(label)
	if err != nil {
		return err
	}
	return root.Close()
}

// put writes a new file and renames it: whoever reads sees the old secret or the new one, whole.
func (f *file) put(_ context.Context, label string, secret vault.Secret, _ bool) (err error) {
	root, name, err := f.enter(label)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // what is in it was synced
	temporary := "." + name + "." + rand.Text()[:8]
	out, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = root.Remove(temporary) // the error is told; a rest of it is noticed
		}
	}()
	_, err = io.WriteString(out, secret.Reveal())
	if err == nil {
		err = out.Sync()
	}
	if closed := out.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = root.Rename(temporary, name)
	}
	if err != nil {
		return err
	}
	folder, err := root.Open(".")
	if err != nil {
		return err
	}
	defer folder.Close() //nolint:errcheck // it was only synced
	return folder.Sync()
}

func (f *file) get(_ context.Context, label string) (vault.Secret, error) {
	folder, name, err := f.at(label)
	if err != nil {
		return vault.Secret{}, err
	}
	in, err := os.Open(filepath.Join(folder, name)) // a link is followed: mounted secrets are links
	if err != nil {
		return vault.Secret{}, err
	}
	defer in.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(io.LimitReader(in, maxSecret+1))
	if err != nil {
		return vault.Secret{}, err
	}
	return secretFrom(string(text))
}
