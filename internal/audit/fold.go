package audit

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
)

// Limits of folding. Together they bound memory, and what a scan or a looping agent can write to disk: two
// records per group and second.
const (
	foldFor        = time.Second
	maxGroups      = 4096 // all principals together
	maxGroupsOfKey = 16   // kinds of denial of one key, and networks of calls without a known key
)

// Folder decides which denials become records of their own. The first of a kind passes at once; equal ones
// within about a second are counted and become one record with a count. Equal means: same key, operation,
// reason, rule and parameter; without a known key, same reason and same network (/24, /64). What exceeds
// the limits is counted per key, and beyond that together: no denial goes uncounted. Counts that were not
// yet flushed are lost when the process dies, at most those of one tick. Safe for concurrent use.
type Folder struct {
	mu     sync.Mutex
	groups map[foldKey]*Group
	ofKey  map[policy.KeyID]int
}

type foldKey struct {
	key       policy.KeyID
	operation policy.OperationName
	code      policy.Code
	rule      string
	param     string
	network   string
	overflow  bool // of the key; with an empty everything else, of all
	all       bool
}

// Group is one kind of denial while it is being folded.
type Group struct {
	opened time.Time
	like   Record // what the fold's record says; not the first record itself, which belongs to the store
	count  int64
	first  atomic.Int64
	known  chan struct{} // closed by Wrote
	once   sync.Once
}

// NewFolder returns an empty folder.
func NewFolder() *Folder {
	return &Folder{groups: make(map[foldKey]*Group), ofKey: make(map[policy.KeyID]int)}
}

// Fold takes note of a denial. first is true if the record is to be written as it is; the writer then
// tells the group with Wrote. Otherwise it has been counted and must not be written. Records of other
// kinds are never folded: they get no group.
func (f *Folder) Fold(rec *Record, now time.Time) (g *Group, first bool) {
	if rec.Kind != KindDenied || len(rec.Failures) == 0 {
		return nil, true
	}
	id := identify(rec)
	f.mu.Lock()
	defer f.mu.Unlock()
	if g, ok := f.groups[id]; ok {
		g.count++
		return g, false
	}
	if f.ofKey[rec.Key] >= maxGroupsOfKey {
		id = foldKey{key: rec.Key, overflow: true}
	}
	if len(f.groups) >= maxGroups {
		id = foldKey{overflow: true, all: true}
	}
	if g, ok := f.groups[id]; ok {
		g.count++
		return g, false
	}
	g = &Group{opened: now, like: likeness(rec, id), known: make(chan struct{})}
	f.groups[id] = g
	if !id.overflow {
		f.ofKey[rec.Key]++
	}
	return g, true
}

// Wrote tells the group under which number its first denial was written; 0 if it could not be. Whoever got
// the group with first must call it. A nil group does nothing.
func (g *Group) Wrote(seq int64) {
	if g != nil {
		g.first.Store(seq)
		g.once.Do(func() { close(g.known) })
	}
}

// Await waits until the number of the group's first denial is known, and returns it: so that what was counted
// with it can be told by its name. It is 0 if that denial could not be written.
func (g *Group) Await() int64 {
	if g == nil {
		return 0
	}
	<-g.known
	return g.first.Load()
}

// First returns the number of the group's first denial, or 0 if it is not known (yet).
func (g *Group) First() int64 {
	if g == nil {
		return 0
	}
	return g.first.Load()
}

// Flush ends the groups that are a second old and returns a record for each that counted anything. Call it
// about once a second; records carry now as their time.
func (f *Folder) Flush(now time.Time) []*Record {
	return f.flush(now, false)
}

// Drain ends all groups: the last thing before a process ends.
func (f *Folder) Drain(now time.Time) []*Record { return f.flush(now, true) }

func (f *Folder) flush(now time.Time, all bool) []*Record {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []*Record
	for id, g := range f.groups {
		age := now.Sub(g.opened)
		if !all && age >= 0 && age < foldFor { // a clock that went back ends a group too
			continue
		}
		delete(f.groups, id)
		if !id.overflow {
			if f.ofKey[id.key]--; f.ofKey[id.key] == 0 {
				delete(f.ofKey, id.key)
			}
		}
		if g.count == 0 {
			continue
		}
		rec := g.like
		rec.At, rec.Count, rec.Ref = now, g.count, g.first.Load()
		out = append(out, &rec)
	}
	// In the order of the denials that they are like: equal runs leave equal records.
	slices.SortFunc(out, func(x, y *Record) int {
		return cmp.Or(cmp.Compare(x.Ref, y.Ref), cmp.Compare(x.Key, y.Key), cmp.Compare(x.From, y.From))
	})
	return out
}

func identify(rec *Record) foldKey {
	why := rec.Failures[0]
	id := foldKey{key: rec.Key, code: why.Code}
	if rec.Key == "" {
		id.network = network(rec.From)
		return id
	}
	id.operation, id.rule, id.param = rec.Operation, why.Rule, why.Param
	return id
}

// likeness keeps of a denial what all that will be counted with it have in common.
func likeness(rec *Record, id foldKey) Record {
	like := Record{Kind: KindFolded, Verdict: policy.Deny.String()}
	if id.all {
		like.Why = "further denials of many keys, too many to be told apart"
		return like
	}
	like.Key, like.KeyName, like.Upstream, like.Mode, like.Node = rec.Key, rec.KeyName, rec.Upstream, rec.Mode, rec.Node
	if id.overflow {
		like.Why = "further denials for several reasons, too many to be told apart"
		return like
	}
	like.From = id.network
	if rec.Key != "" {
		like.Operation, like.Method, like.Route = rec.Operation, rec.Method, rec.Route
	}
	like.Status = rec.Status
	like.Failures = []policy.Failure{rec.Failures[0]}
	return like
}

// network is the part of an address that a single sender cannot change at will.
func network(from string) string {
	addr, err := netip.ParseAddr(from)
	if err != nil {
		return ""
	}
	bits := 64
	if addr = addr.Unmap().WithZone(""); addr.Is4() {
		bits = 24
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return ""
	}
	return prefix.String()
}
