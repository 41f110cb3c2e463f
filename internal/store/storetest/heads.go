package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store"
)

// headsThinOut signs every twenty minutes of six days; a month passes, and it signs every twenty minutes of two
// hours and then every ten seconds.
func headsThinOut(t *testing.T, open Open) {
	const format = "2 15:04"
	now := time.Date(2026, 11, 1, 0, 5, 0, 0, time.UTC)
	db := open(t, func() time.Time { return now })
	t.Cleanup(func() { must(t, db.Close()) })
	sign := func(times int, every time.Duration) {
		t.Helper()
		for range times {
			if _, err := db.Log(t.Context(), &audit.Record{Kind: audit.KindSystem}); err != nil {
				t.Fatal(err)
			}
			must(t, db.SignHead(t.Context()))
			now = now.Add(every)
		}
	}
	kept := func() (shown []string) {
		t.Helper()
		must(t, db.View(t.Context(), func(tx store.Tx) error {
			heads, err := tx.Heads(1)
			if err != nil {
				return err
			}
			for _, h := range heads {
				shown = append(shown, h.At.Format(format))
			}
			report, err := audit.VerifyEntries(audit.NewChain(audit.FirstChain), entries(tx), heads, NewSigner("test").PublicKey())
			if seq, _, _ := tx.Height(); err != nil || report.Problem != nil || report.LastSigned != seq {
				t.Errorf("%+v %v; the height is %d", report, err, seq)
			}
			return nil
		}))
		return shown
	}
	sign(6*24*3, 20*time.Minute)
	var hourly []string
	for hour := range 6*24 - 3 {
		hourly = append(hourly, fmt.Sprintf("%d %02d:45", 1+hour/24, hour%24))
	}
	got := kept()
	if diff := cmp.Diff(hourly, got[:min(len(hourly), len(got))]); diff != "" {
		t.Errorf("after six days (-want +got):\n%s", diff)
	}
	if recent := len(got) - len(hourly); recent < 6 || recent > 9 { // a round begins every hour
		t.Errorf("%d heads of the last three hours are kept", recent)
	}
	now = now.Add(30 * 24 * time.Hour)
	sign(6, 20*time.Minute)
	sign(300, 10*time.Second)
	now = now.Add(time.Hour)
	for range 10 { // more than a round takes
		must(t, db.SignHead(t.Context()))
	}
	if diff := cmp.Diff([]string{"1 23:45", "2 23:45", "3 23:45", "4 23:45", "5 23:45", "6 23:45", "7 00:45", "7 01:45", "7 02:54"}, kept()); diff != "" {
		t.Errorf("a month later (-want +got):\n%s", diff)
	}
}
