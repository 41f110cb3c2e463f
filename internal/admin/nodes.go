package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/cluster"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// Cluster is the other processes that serve the same store.
type Cluster interface {
	// Acknowledged waits until all others act on what was changed: on the brakes alone, or on everything.
	Acknowledged(ctx context.Context, brakes bool) ([]cluster.Ack, error)
	List(context.Context) (store.Nodes, error)
}

// Node is a process that serves the store.
type Node struct {
	ID      string    `json:"id" doc:"another one after each start"`
	Name    string    `json:"name"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	// State is live, silent (its lease has run out, so it lets nothing pass) or ended.
	State    string    `json:"state" enum:"live,silent,ended" doc:"silent: its lease has run out, so it lets nothing pass"`
	Seen     time.Time `json:"seen" doc:"its last sign of life, by the store's clock"`
	SeenMS   float64   `json:"seen_ms" doc:"milliseconds since then"`
	LeaseMS  float64   `json:"lease_ms" doc:"how long it may act without the store"`
	Behind   int64     `json:"behind" doc:"operators' changes that it does not act on yet"`
	Calls    int64     `json:"calls" doc:"answered since it started"`
	InFlight int64     `json:"in_flight" doc:"calls on their way to upstreams when it was seen"`
	Own      bool      `json:"own,omitempty" doc:"the one that answers"`
	Ended    time.Time `json:"ended,omitzero"`
}

// Nodes lists the processes that serve the store, the one that started first first; none where only one can.
func (s *Service) Nodes(ctx context.Context) ([]Node, error) {
	out := []Node{}
	if s.Cluster == nil {
		return out, nil
	}
	seen, err := s.Cluster.List(ctx)
	if err != nil {
		return nil, understood("list the nodes", err)
	}
	for _, n := range seen.Nodes {
		v := Node{
			ID: n.ID, Name: n.Name, Version: n.Version, Started: n.Started.UTC(), State: "live", Seen: n.Seen.UTC(),
			SeenMS: milliseconds(seen.Now.Sub(n.Seen)), LeaseMS: milliseconds(n.Lease), Behind: max(0, seen.Control-n.Control),
			Calls: n.Calls, InFlight: n.InFlight, Own: n.Own, Ended: utc(n.Ended),
		}
		switch {
		case !n.Ended.IsZero():
			v.State = "ended"
		case !n.Live(seen.Now):
			v.State = "silent"
		}
		out = append(out, v)
	}
	return out, nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// NodeAck is how another node came to act on a stop.
type NodeAck struct {
	Node string  `json:"node"`
	Name string  `json:"name"`
	MS   float64 `json:"ms" doc:"milliseconds from the commit until it let nothing of it pass any more"`
	// Expired: it did not answer; its lease ran out.
	Expired bool `json:"expired,omitempty" doc:"it did not answer: it lets nothing pass because its lease has run out"`
}

// heard waits until all other nodes obey the brakes. What it cannot wait for is a warning: the stop is durable, no money call
// passes anywhere, and a node that has not heard of it lets reads pass for no longer than its lease.
func (s *Service) heard(ctx context.Context, answer *KillAnswer) {
	if s.Cluster == nil {
		return
	}
	acks, err := s.Cluster.Acknowledged(ctx, true)
	for _, a := range acks {
		answer.Nodes = append(answer.Nodes, NodeAck{Node: a.Node, Name: a.Name, MS: milliseconds(a.After), Expired: a.Expired})
	}
	slices.SortFunc(answer.Nodes, func(a, b NodeAck) int { return strings.Compare(a.Name+a.Node, b.Name+b.Node) })
	if err != nil {
		answer.Warning = fmt.Sprintf("stopped, and no write passes at any node; whether each node refuses reads already is not known (%v): a node that has not heard of it refuses them when its lease runs out", err)
	}
}

// spread waits until all other nodes act on a change that was made here, so that whoever asks another one next finds it. What
// cannot be waited for comes later.
func (s *Service) spread(ctx context.Context) {
	if s.Cluster == nil {
		return
	}
	acks, err := s.Cluster.Acknowledged(ctx, false)
	if err != nil {
		s.Log.Warn("not every node acts on a change yet", "err", err)
	}
	for _, a := range acks {
		if a.Expired {
			s.Log.Warn("a node does not act on a change yet", "node", a.Name)
		}
	}
}

func (a *api) nodes() {
	handleList(a, route{http.MethodGet, "nodes", "list-nodes", "List the processes that serve the store", vault.ToSee, 0},
		func(n Node) string { return n.ID },
		func(ctx context.Context, _ Actor, _ *Paging) ([]Node, error) { return a.s.Nodes(ctx) })
}

// Nodes lists the processes that serve the store.
func (c *Client) Nodes(ctx context.Context) (List[Node], error) {
	return whole[Node](ctx, c, "nodes")
}
