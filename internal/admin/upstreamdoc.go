package admin

import (
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// upstreamDoc is what an upstream's row keeps beside its id and name. The secret is sealed.
type upstreamDoc struct {
	Mode          string    `json:"mode"`
	BaseURL       string    `json:"base_url"`
	Version       string    `json:"version"`
	Sealed        []byte    `json:"sealed"`
	SecretVersion int64     `json:"secret_version"`
	SecretPrefix  string    `json:"secret_prefix"`
	SecretLast4   string    `json:"secret_last4"`
	Created       time.Time `json:"created"`

	SecretSince   time.Time     `json:"secret_since,omitzero"`
	RotateEvery   time.Duration `json:"rotate_every,omitempty"`
	Account       string        `json:"account,omitempty"`
	Staged        *stagedDoc    `json:"staged,omitempty"`
	StagedVersion int64         `json:"staged_version,omitempty"`

	SealedWebhook  []byte `json:"sealed_webhook,omitempty"`
	WebhookVersion int64  `json:"webhook_version,omitempty"`
}

type stagedDoc struct {
	Sealed  []byte    `json:"sealed"`
	Version int64     `json:"version"`
	Prefix  string    `json:"prefix"`
	Last4   string    `json:"last4"`
	At      time.Time `json:"at"`
	By      string    `json:"by"`
}

func encodeUpstream(u *vault.Upstream) (store.UpstreamRow, error) {
	doc, err := json.Marshal(upstreamDoc{
		SecretSince: u.SecretSince, RotateEvery: u.RotateEvery, Account: u.Account,
		Staged: (*stagedDoc)(u.Staged), StagedVersion: u.StagedVersion,
		Mode: u.Mode.String(), BaseURL: u.BaseURL.String(), Version: u.Version, Sealed: u.Sealed,
		SecretVersion: u.SecretVersion, SecretPrefix: u.SecretPrefix, SecretLast4: u.SecretLast4, Created: u.Created,
		SealedWebhook: u.SealedWebhook, WebhookVersion: u.WebhookVersion,
	})
	if err != nil {
		return store.UpstreamRow{}, fmt.Errorf("encode upstream %s: %w", u.Name, err)
	}
	return store.UpstreamRow{ID: u.ID, Name: u.Name, Doc: doc}, nil
}

func decodeUpstream(row store.UpstreamRow) (vault.Upstream, error) {
	var d upstreamDoc
	if err := json.Unmarshal(row.Doc, &d); err != nil {
		return vault.Upstream{}, fmt.Errorf("decode upstream %s: %w", row.Name, err)
	}
	mode, ok := vault.ParseMode(d.Mode)
	if !ok {
		return vault.Upstream{}, fmt.Errorf("decode upstream %s: mode %q", row.Name, d.Mode)
	}
	base, err := url.Parse(d.BaseURL)
	if err != nil {
		return vault.Upstream{}, fmt.Errorf("decode upstream %s: %w", row.Name, err)
	}
	return vault.Upstream{
		SecretSince: d.SecretSince, RotateEvery: d.RotateEvery, Account: d.Account,
		Staged: (*vault.Staged)(d.Staged), StagedVersion: d.StagedVersion,
		ID: row.ID, Name: row.Name, Mode: mode, BaseURL: base, Version: d.Version, Sealed: d.Sealed,
		SecretVersion: d.SecretVersion, SecretPrefix: d.SecretPrefix, SecretLast4: d.SecretLast4, Created: d.Created,
		SealedWebhook: d.SealedWebhook, WebhookVersion: d.WebhookVersion,
	}, nil
}
