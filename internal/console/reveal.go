package console

import (
	"strings"

	"github.com/keybrake/keybrake/internal/admin"
)

// revealPage shows a vault key, this once.
type revealPage struct {
	ID, Name, Key, Mode string
	Warnings            []string
	RestrictedKey       *admin.RestrictedKey
	Gateway             string
	// Host, Port and Scheme are the gateway's address in parts, as some SDKs want it.
	Host, Port, Scheme string
	Rotated            bool
	Customer           string // an id for the example; empty: any
}

func (v *visit) reveal(d revealPage) *page {
	if v.Gateway != nil {
		d.Gateway = v.Gateway()
	}
	rest := ""
	d.Scheme, rest, _ = strings.Cut(d.Gateway, "://")
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		d.Host, d.Port = rest[:i], rest[i+1:]
	} else {
		d.Host = rest
	}
	p := &page{
		Title: "Copy the vault key", Heading: "Copy the vault key now", Nav: "/keys", Template: "reveal", Data: d, Crumb: &link{"/keys", "Keys"},
		Sub: "This is the only time it is shown. Keybrake keeps a hash of it, so nobody can show it again.",
		Key: stopTarget{ID: d.ID, Name: d.Name},
	}
	return p
}

// rotate gives a key a new text and shows it.
func (v *visit) rotate(id string) (*page, error) {
	got, err := v.api.RotateKey(v.ctx(), id, admin.Rotation{Overlap: v.r.PostFormValue("overlap")})
	if problem, ok := refused(err); ok {
		return typedAgain(v.keyWith(id, keyPage{Problem: problem}))
	}
	if err != nil {
		return nil, err
	}
	k, err := v.api.Key(v.ctx(), id)
	if err != nil {
		return nil, err
	}
	return v.reveal(revealPage{ID: k.ID, Name: k.Name, Key: got.Key, Mode: k.Mode, Rotated: true}), nil
}
