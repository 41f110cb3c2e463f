package sim

import (
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/upstream/stripe"
	"github.com/keybrake/keybrake/internal/vault"
)

// fault is one known mistake that is planted into what is around the gateway. The zero value plants none.
type fault string

func (f fault) plant(w *world)                                   {}
func (f fault) ring(w *world, r *vault.Ring) *vault.Ring         { return r }
func (f fault) db(w *world, db store.DB, r *vault.Ring) store.DB { return db }
func (f fault) adapter(a *stripe.Adapter) upstream.Adapter       { return a }

// script takes the place of chance.
type script struct{}

func (s *script) attach(w *world) {}
func (s *script) readFails() bool { return false }
func (s *script) step(w *world)   {}
