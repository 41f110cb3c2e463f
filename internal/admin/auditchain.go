package admin

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"net/http"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// ChainPlace is a record between its neighbours.
type ChainPlace struct {
	// Before and After are absent at the ends of what is there.
	Before *ChainLink `json:"before,omitempty"`
	This   ChainLink  `json:"this"`
	After  *ChainLink `json:"after,omitempty"`
	Height int64      `json:"height" doc:"number of the last record"`
	Signed int64      `json:"signed" doc:"number of the last record that a signed head covers"`
	// Whole: this record's hash covers the one before it, and the next one's covers this.
	Whole bool `json:"whole"`
}

// ChainLink is a record with its hash.
type ChainLink struct {
	Record json.RawMessage `json:"record"`
	Hash   string          `json:"hash" doc:"hex; covers the hash before it and the record"`
}

// AuditChain shows a record's place in the chain. VerifyAudit checks the whole of it.
func (s *Service) AuditChain(ctx context.Context, id string) (ChainPlace, error) {
	entry, err := s.record(ctx, id)
	if err != nil {
		return ChainPlace{}, err
	}
	near, err := s.query(ctx, store.RecordQuery{From: entry.Seq - 1, To: entry.Seq + 1, Ascending: true})
	if err != nil {
		return ChainPlace{}, err
	}
	out := ChainPlace{Whole: true}
	before := audit.NewChain(audit.FirstChain).Hash
	for i := range near.Entries {
		e := &near.Entries[i]
		link := ChainLink{withID(e), hex.EncodeToString(e.Hash[:])}
		if (i > 0 || e.Seq == 1) && audit.Link(before, e.Bytes) != e.Hash {
			out.Whole = false
		}
		before = e.Hash
		switch {
		case e.Seq < entry.Seq:
			out.Before = &link
		case e.Seq > entry.Seq:
			out.After = &link
		default:
			out.This = link
		}
	}
	status, err := s.Status(ctx)
	out.Height, out.Signed = status.Height, status.Signed
	return out, err
}

func (a *api) chain() {
	handle(a, route{http.MethodGet, "audit/records/{id}/chain", "chain-audit", "Show a record between its neighbours, with their hashes", vault.ToSee, 0},
		func(ctx context.Context, _ Actor, in *struct {
			ID string `path:"id"`
		}) (ChainPlace, error) {
			return a.s.AuditChain(ctx, in.ID)
		})
}

// AuditChain calls Service.AuditChain.
func (c *Client) AuditChain(ctx context.Context, id string) (ChainPlace, error) {
	return call[ChainPlace](ctx, c, http.MethodGet, "audit/records/"+seg(id)+"/chain", nil, nil)
}
