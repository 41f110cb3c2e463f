package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/keybrake/keybrake/internal/vault"
)

// addresses are where the listeners accept, as URLs.
type addresses struct{ Gateway, Admin string }

// announce tells people, scripts and the CLI that the server is ready: what --dev prints, the ready file and
// the server file of this user.
func (s *server) announce(ctx context.Context, a addresses) error {
	file := serverFile{
		Gateway: a.Gateway, Admin: a.Admin, AdminToken: s.admin.MintLocal("local", vault.RoleAdmin).Reveal(), Store: s.place.base,
	}
	if all := s.admin.Upstreams(); len(all) == 1 {
		file.Upstream = all[0].Name
	}
	if s.demo != nil {
		file.Sandbox = s.demo.url
		if err := s.printDemo(a); err != nil {
			return err
		}
	} else if err := s.printFirstLink(ctx); err != nil {
		return err
	}
	path, err := serverFilePath(os.Getenv)
	if err == nil {
		err = file.write(path)
	}
	if err != nil { // the server works without it: clients then need KEYBRAKE_ADMIN_URL and _TOKEN
		s.log.Warn("commands of this user will not find the server by themselves", "err", err)
	} else {
		s.closers = append(s.closers, func() error { return s.withdraw(path, file) })
	}
	if s.settings.ReadyFile != "" {
		if err := file.write(s.settings.ReadyFile); err != nil {
			return fmt.Errorf("--ready-file: %w", err)
		}
	}
	s.log.InfoContext(ctx, "ready", "gateway", a.Gateway, "admin", a.Admin)
	return nil
}

// withdraw removes the server file if it is still this server's.
func (s *server) withdraw(path string, ours serverFile) error {
	present, err := readServerFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || present.AdminToken != ours.AdminToken {
		return err
	}
	return os.Remove(path)
}
