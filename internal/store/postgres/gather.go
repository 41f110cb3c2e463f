package postgres

import "sync"

// gather answers what many callers look up with one query for all of them: what is asked for while a query runs is in the next
// one. Alone a caller waits for its own query and nothing else. What a caller gets was read after it had asked. Safe for
// concurrent use.
type gather[K comparable, V any] struct {
	// read reads what there is of keys.
	read func(keys []K) (map[K]V, error)

	mu      sync.Mutex
	waiting *round[K, V] // what the next query is for; nil: nothing
	reading bool
}

// round is one query.
type round[K comparable, V any] struct {
	keys  []K
	done  chan struct{}
	found map[K]V
	err   error
}

// get asks for k. The answer is in what it returns when that is done.
func (g *gather[K, V]) get(k K) *round[K, V] {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting == nil {
		g.waiting = &round[K, V]{done: make(chan struct{})}
	}
	r := g.waiting
	r.keys = append(r.keys, k)
	if !g.reading {
		g.reading = true
		go g.run()
	}
	return r
}

// run reads until nobody waits.
func (g *gather[K, V]) run() {
	for {
		g.mu.Lock()
		r := g.waiting
		g.waiting, g.reading = nil, r != nil
		g.mu.Unlock()
		if r == nil {
			return
		}
		r.found, r.err = g.read(r.keys)
		close(r.done)
	}
}
