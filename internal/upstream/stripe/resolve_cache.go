package stripe

import (
	"container/list"
	"sync"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// maxEdges bounds the cache of edges: some three megabytes when full.
const maxEdges = 16384

// edge names one step from an object to its customer, at one upstream and connected account.
type edge struct {
	upstream policy.UpstreamID
	account  policy.AccountID
	path     string
	field    string
}

// lastingTemplates are the objects that never change their customer once they have one. Payment intents,
// setup intents and payment methods do, and a customer that an object does not have yet may still come.
var lastingTemplates = map[string]bool{
	"/v1/charges/{charge}":                        true,
	"/v1/charges/{id}":                            true,
	"/v1/refunds/{refund}":                        true,
	"/v1/refunds/{id}":                            true,
	"/v1/invoices/{invoice}":                      true,
	"/v1/invoices/{id}":                           true,
	"/v1/subscriptions/{subscription}":            true,
	"/v1/subscriptions/{subscription_exposed_id}": true,
	"/v1/subscriptions/{id}":                      true,
}

// edgeCache remembers edges that never change, the least recently used ones are dropped first. The zero
// cache is empty and ready; safe for concurrent use.
type edgeCache struct {
	mu     sync.Mutex
	byEdge map[edge]*list.Element
	recent list.List // of knownEdge, the latest in front
}

type knownEdge struct {
	edge
	customer policy.CustomerID
}

// edgeOf returns the edge of a step, and whether it may be remembered.
func edgeOf(call *upstream.Call, ref LookupRef, path string, f Field) (edge, bool) {
	if call.Upstream == "" || !lastingTemplates[ref.Template] {
		return edge{}, false
	}
	return edge{call.Upstream, call.Account, path, f.String()}, true
}

func (c *edgeCache) get(e edge) (policy.CustomerID, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.byEdge[e]
	if !ok {
		return "", false
	}
	c.recent.MoveToFront(el)
	return el.Value.(knownEdge).customer, true
}

func (c *edgeCache) put(e edge, id policy.CustomerID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byEdge[e]; ok {
		return
	}
	if c.byEdge == nil {
		c.byEdge = make(map[edge]*list.Element)
	}
	c.byEdge[e] = c.recent.PushFront(knownEdge{e, id})
	if c.recent.Len() > maxEdges {
		delete(c.byEdge, c.recent.Remove(c.recent.Back()).(knownEdge).edge)
	}
}
