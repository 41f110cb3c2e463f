package console

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

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
	for _, want := range []string{"at all nodes", "12.0 ms", "640.0 ms", "its lease ran out"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page after a stop does not say %q", want)
		}
	}
}
