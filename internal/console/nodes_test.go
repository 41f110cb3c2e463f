package console

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/cluster"
	"github.com/keybrake/keybrake/internal/store"
)

// others are two more nodes: one obeys after a moment, one was cut off.
type others struct{ now time.Time }

func (o others) Acknowledged(context.Context, bool) ([]cluster.Ack, error) {
	return []cluster.Ack{{Node: "node_b", Name: "gw-b", After: 12 * time.Millisecond}, {Node: "node_c", Name: "gw-c", After: 640 * time.Millisecond, Expired: true}}, nil
}

func (o others) List(context.Context) (store.Nodes, error) {
	node := func(name string, silent time.Duration, control int64) store.NodeRow {
		return store.NodeRow{
			ID: "node_" + name, Name: "gw-" + name, Version: "v1.4.0", Started: o.now.Add(-time.Hour), Seen: o.now.Add(-silent), Own: name == "a",
			Beat: store.Beat{Braked: control, Control: control, Lease: 750 * time.Millisecond, Calls: 4711},
		}
	}
	return store.Nodes{Now: o.now, Control: 9, Nodes: []store.NodeRow{node("a", 20*time.Millisecond, 9), node("b", 110*time.Millisecond, 8), node("c", 9*time.Second, 4)}}, nil
}

func TestNodesAreOnTheOverviewAndInTheEffectOfAStop(t *testing.T) {
	s := newSite(t)
	s.service.Cluster = others{time.Now()}
	page := s.get("/").body
	for _, want := range []string{"gw-a", "this one", "gw-b", "1 change behind", "heard 110 ms ago, lease 750 ms", "gw-c", "silent: lets nothing pass", "4,711 calls"} {
		if !strings.Contains(page, want) {
			t.Errorf("the overview does not say %q", want)
		}
	}
	page = s.post("/stop", url.Values{"target": {"all"}, "mode": {"stopped"}, "reason": {"it loops"}}).body
	for _, want := range []string{"at the slowest node", "3 of 3", "1 cut off: lease ran out", "took your press", "heard of it", "did not answer: its lease ran out", "scale 0 to 1,000 ms"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page after a stop does not say %q", want)
		}
	}
}

func TestTheTimesOfNodesAddUpFromThePress(t *testing.T) {
	m := measured{Own: &admin.Node{ID: "node_aaaaaa", Name: "gw-a"}, Answer: admin.KillAnswer{DurableMS: 4.5, Nodes: []admin.NodeAck{
		{Node: "node_bbbbbb", Name: "gw-b", MS: 12.25}, {Node: "node_cccccc", Name: "gw-c", MS: 640, Expired: true},
	}}}
	got, scale := m.nodes(map[string]int64{"gw-a/aaaaaa": 3, "gw-b/bbbbbb": 34, "gw-b/dddddd": 7})
	want := []nodeTime{
		{Name: "gw-a", Own: true, MS: 4.5, Width: "0.45%", Refused: 3},
		{Name: "gw-b", MS: 16.75, Width: "1.68%", Refused: 34}, // its records, not those of an earlier process of that name
		{Name: "gw-c", Expired: true, MS: 644.5, Width: "64.45%"},
	}
	if !slices.Equal(got, want) || scale != 1000 {
		t.Errorf("%+v on a scale to %d", got, scale)
	}
	m.Answer.DurableMS = 0
	if got, _ := m.nodes(nil); got != nil {
		t.Errorf("of a stop that is in memory only nothing was measured at other nodes: %+v", got)
	}
}
