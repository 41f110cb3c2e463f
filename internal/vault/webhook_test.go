package vault

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"testing"
	"time"
)

func signed(secret, message string, at time.Time) string {
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%d.%s", at.Unix(), message)
	return fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(mac.Sum(nil)))
}

func TestAMessageIsBelievedOnlyWithTheVendorsSignatureOfNow(t *testing.T) {
	master, err := EphemeralMaster()
	if err != nil {
		t.Fatal(err)
	}
	base, _ := url.Parse("https://api.stripe.com")
	u := Upstream{ID: NewUpstreamID(), Name: "live", Mode: Test, BaseURL: base}
	if u, err = u.SealInto(master, NewSecret("rk_test_abcdefgh")); err != nil {
		t.Fatal(err)
	}
	none, err := NewRing(master).PutUpstream(u)
	if err != nil {
		t.Fatal(err)
	}
	if u, err = u.SealWebhook(master, NewSecret("whsec_abc")); err != nil {
		t.Fatal(err)
	}
	up, err := NewRing(master).PutUpstream(u)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	const message = `{"id":"evt_1"}`
	good := signed("whsec_abc", message, now)
	for _, c := range []struct {
		name, header, message string
		at                    time.Time
		up                    *Upstream
		ok                    bool
	}{
		{"signed now", good, message, now, up, true},
		{"signed almost five minutes ago", good, message, now.Add(4*time.Minute + 59*time.Second), up, true},
		{"two signatures, of which one is ours", signed("whsec_old", message, now) + "," + good[len("t=1780000000,"):], message, now, up, true},
		{"an unknown scheme beside it", good + ",v0=00", message, now, up, true},
		{"a year later", good, message, now.AddDate(1, 0, 0), up, false},
		{"six minutes early", good, message, now.Add(-6 * time.Minute), up, false},
		{"another message", good, `{"id":"evt_2"}`, now, up, false},
		{"another secret", signed("whsec_abd", message, now), message, now, up, false},
		{"another time on the same signature", "t=" + fmt.Sprint(now.Unix()+1) + good[len("t=1780000000"):], message, now, up, false},
		{"two times", "t=1," + good, message, now, up, false},
		{"no signature", fmt.Sprintf("t=%d", now.Unix()), message, now, up, false},
		{"nothing", "", message, now, up, false},
		{"an upstream without a signing secret", good, message, now, none, false},
		{"signed with nothing for an upstream without one", signed("", message, now), message, now, none, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.up.VerifyWebhook([]byte(c.message), c.header, c.at)
			if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrSignature) {
				t.Errorf("%v", err)
			}
		})
	}
	for _, secret := range []string{"whsec_", "rk_test_a", "whsec_a b", "whsec_\n"} {
		if _, err := u.SealWebhook(master, NewSecret(secret)); !errors.Is(err, ErrSigningSecret) {
			t.Errorf("%q: %v", secret, err)
		}
	}
	moved := u
	moved.ID = NewUpstreamID() // another row's sealed bytes do not open
	if _, err := NewRing(master).PutUpstream(moved); err == nil {
		t.Error("a signing secret opened in another upstream")
	}
}
