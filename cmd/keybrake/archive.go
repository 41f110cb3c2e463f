package main

import (
	"context"
	"time"
)

// archiveEvery is how often old records are looked for. They are moved a file at a time until none are left.
const archiveEvery = 10 * time.Minute

// archive moves old records into archive files, if that is wanted, at once and then every archiveEvery.
func (s *server) archive(ctx context.Context) {
	keep, err := s.settings.auditKeep()
	if err != nil || keep == 0 { // an error was refused before anything was opened
		return
	}
	tick := time.NewTicker(archiveEvery)
	defer tick.Stop()
	for {
		s.archiveBefore(ctx, s.store.Now().Add(-keep))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// archiveBefore moves what was written before a time.
func (s *server) archiveBefore(ctx context.Context, before time.Time) {
	for {
		n, err := s.store.Archive(ctx, before)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.log.Error("old records could not be moved into an archive; they stay in the store", "err", err)
			return
		case n == 0:
			return
		}
		s.log.Info("old records moved into an archive", "records", n)
	}
}
