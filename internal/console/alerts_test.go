package console

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/alert"
	"github.com/keybrake/keybrake/internal/store"
)

func TestAnAlertIsShownWhereItIsLookedForAndAcknowledged(t *testing.T) {
	s := newSite(t)
	k := s.key("agent-support-refunds-one")
	put := func(r store.AlertRow) {
		t.Helper()
		if err := s.db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
			r.First, r.Last = tx.Now(), tx.Now()
			return tx.PutAlert(r)
		}); err != nil {
			t.Fatal(err)
		}
	}
	put(store.AlertRow{ID: "alr_1", Kind: "loop", Subject: "x", Key: k.ID, Severity: "critical", Title: "agent-support-refunds-one may be in a loop", Text: "refunds.create for cus_A: 12 calls"})
	put(store.AlertRow{ID: "alr_2", Kind: "expiry", Subject: "y", Key: k.ID, Severity: "info", Title: "It ends soon", Text: "in a week"})
	overview := s.get("/").body
	for _, want := range []string{"One key needs you.", "may be in a loop", `<span class="tally">1<`, "/stop?key=" + k.ID} {
		if !strings.Contains(overview, want) {
			t.Errorf("the overview lacks %q", want)
		}
	}
	if strings.Contains(overview, "It ends soon") {
		t.Error("the overview shows what has time")
	}
	if page := s.get("/keys/" + k.ID).body; !strings.Contains(page, "refunds.create for cus_A: 12 calls") {
		t.Error("the key's page does not show its loop")
	}
	if page := s.get("/alerts"); !strings.Contains(page.body, "2 alerts open.") || !strings.Contains(page.body, "Nobody is told") {
		t.Error(shown(page.body))
	}
	if got := s.post("/alerts", url.Values{"do": {"ack"}, "alert": {"alr_1"}}); got.url != "/alerts" || !strings.Contains(got.body, "ines looks after it") {
		t.Errorf("%s %s", got.url, shown(got.body))
	}
	if strings.Contains(s.get("/").body, `class="tally"`) {
		t.Error("what somebody looks after is still counted")
	}
	if got := s.post("/alerts", url.Values{"do": {"ack"}, "alert": {"alr_none"}}); got.status != http.StatusUnprocessableEntity {
		t.Errorf("an alert that there is not: %d", got.status)
	}
}

func TestATargetIsTriedAndItsAnswerShown(t *testing.T) {
	s := newSite(t)
	s.service.Alerter = &alert.Watcher{Store: s.db, Config: alert.Config{Targets: []alert.Target{
		{Name: "pager", Kind: "command", Command: []string{"true"}},
		{Name: "broken", Kind: "command", Command: []string{"sh", "-c", "echo no line >&2; exit 3"}},
	}}}
	if got := s.post("/alerts", url.Values{"do": {"test"}, "target": {"pager"}}); !strings.Contains(got.body, "took the test message") {
		t.Error(shown(got.body))
	}
	if got := s.post("/alerts", url.Values{"do": {"test"}, "target": {"broken"}}); !strings.Contains(got.body, "did not take the test message") || !strings.Contains(got.body, "no line") {
		t.Error(shown(got.body))
	}
}
