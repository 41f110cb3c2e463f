package postgres

import (
	"context"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/seeding"
)

// Seed implements store.DB.
func (db *DB) Seed(ctx context.Context, s *store.Seeding) error { return seeding.Beside(ctx, db, s) }
