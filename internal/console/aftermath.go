package console

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
)

// measured is a stop that was made here, as it was measured.
type measured struct {
	ID string
	// At is when the button's press was here, Done when the stop was in force: both by the store's clock. A call that came
	// after Done must not pass.
	At, Done time.Time
	Who      string
	Target   string // as the form says it
	Reason   string
	Answer   admin.KillAnswer
	Own      *admin.Node // that took the press; nil: it is the only one
	Caps     []keyCap    // of what was stopped, at that moment; the closest to their limits first
}

// maxStopCaps is how many caps the page after a stop shows.
const maxStopCaps = 4

// measure notes what is known at the moment when a stop is in force. The stop stands whatever cannot be read here: then the
// page shows less.
func (v *visit) measure(answer admin.KillAnswer) measured {
	m := measured{At: v.now, Who: v.who.Name, Answer: answer}
	if status, err := v.api.Status(v.ctx()); err == nil {
		m.Done = status.AsOf
	}
	if nodes, err := v.api.Nodes(v.ctx()); err == nil {
		if i := slices.IndexFunc(nodes.Items, func(n admin.Node) bool { return n.Own }); i >= 0 {
			m.Own = &nodes.Items[i]
		}
	}
	m.Caps = v.capsOf(answer)
	return m
}

// capsOf reads how the caps stand that a stop leaves where they are: all of one key, or the closest one of each of several.
func (v *visit) capsOf(answer admin.KillAnswer) (out []keyCap) {
	if answer.Scope == "key" && len(answer.Stopped) == 1 {
		k, err := v.api.Key(v.ctx(), answer.Stopped[0])
		if err != nil {
			return nil
		}
		for _, c := range k.Caps {
			if c.Per != "call" {
				out = append(out, keyCap{k.ID, k.Name, newCapBar(c)})
			}
		}
		slices.SortStableFunc(out, func(a, b keyCap) int { return cmp.Compare(b.Percent, a.Percent) })
		return out[:min(len(out), maxStopCaps)]
	}
	keys, err := v.api.Standings(v.ctx(), admin.StandingFilter{KeyFilter: admin.KeyFilter{Limit: keysPerPage}})
	if err != nil {
		return nil
	}
	for _, k := range keys.Items {
		if k.Closest != nil && slices.Contains(answer.Stopped, k.ID) {
			out = append(out, keyCap{k.ID, k.Name, newCapBar(*k.Closest)})
		}
	}
	return out[:min(len(out), maxStopCaps)]
}

// words say who stopped it, when and why.
func (m *measured) words(zone *time.Location) template.HTML {
	at := m.At.In(zone)
	s := template.HTML(template.HTMLEscapeString(m.Who)+" pulled the brake, ") + timeTag(m.At, at.Format("Mon 2 Jan 15:04:05"))
	if m.Reason != "" {
		s += template.HTML(": “" + template.HTMLEscapeString(m.Reason) + "”")
	}
	return s + "."
}

// holds reports whether the brake is still the one that this stop pulled. One that is of a later time may have been lifted
// in between.
func (m *measured) holds(brakes []brakeView) bool {
	return !m.Done.IsZero() && slices.ContainsFunc(brakes, func(b brakeView) bool {
		return b.Target == m.Target && (b.Mode == "stopped" || b.Mode == m.Answer.Mode) && !b.Since.After(m.Done)
	})
}

// covers reports whether the stop was about a call of a record.
func (m *measured) covers(r *record) bool {
	if m.Answer.Scope != "all" && !slices.Contains(m.Answer.Stopped, r.Key) {
		return false
	}
	return m.Answer.Mode == "stopped" || r.Access == "write"
}

// search selects the records of what the stop was about.
func (m *measured) search(f admin.AuditFilter) admin.AuditFilter {
	f.Ascending, f.Limit, f.Scan = true, 1000, auditScan
	if m.Answer.Scope == "key" && len(m.Answer.Stopped) == 1 {
		f.Key = m.Answer.Stopped[0]
	}
	return f
}

// aftermath is what became of calls since a stop.
type aftermath struct {
	Refused int64
	More    bool    // there are others that were not counted
	First   *record // that was refused; nil: none yet
	After   string  // how long after the press the first one was
	// Passed are calls that came after the stop was in force, and passed. It is told only while the brake is on as it was
	// pulled, and only if all of their records were read: otherwise nobody counted.
	Passed     int64
	PassedTold bool
	Nodes      []nodeTime
	Scale      int64 // of the nodes' bars, in milliseconds
}

// nodeTime is when a node let nothing pass any more.
type nodeTime struct {
	Name         string
	Own, Expired bool
	MS           float64 // from when the press was here
	Width        string  // of its bar, in per cent
	Refused      int64   // calls, since the press
}

// since looks up what became of calls since a stop, as far as one search reads.
func (v *visit) since(m *measured, brakes []brakeView) (out aftermath, err error) {
	code := "keybrake_key_killed"
	if m.Answer.Mode == "read-only" {
		code = "keybrake_key_readonly"
	}
	refused, whole, err := v.records(m.search(admin.AuditFilter{Since: m.At, Code: code}))
	if err != nil {
		return aftermath{}, err
	}
	out.More = !whole
	byNode, late := map[string]int64{}, map[int64]bool{}
	for i := range refused {
		r := &refused[i]
		if m.Answer.Scope != "all" && !slices.Contains(m.Answer.Stopped, r.Key) {
			continue
		}
		if r.Kind == "outcome" { // admitted, and stopped before it was sent
			late[r.Ref] = true
		}
		n := int64(1)
		if r.Kind == "folded" {
			n = r.Count
		} else if out.First == nil {
			out.First, out.After = r, milliseconds(r.At.Sub(m.At))
		}
		out.Refused += n
		byNode[r.Node] += n
	}
	out.Nodes, out.Scale = m.nodes(byNode)
	if !m.holds(brakes) {
		return out, nil
	}
	allowed, all, err := v.records(m.search(admin.AuditFilter{Since: m.Done, Verdict: "allow"}))
	if err != nil {
		return aftermath{}, err
	}
	for i := range allowed {
		r := &allowed[i]
		came := r.At.Add(-time.Duration(r.OursMicros+r.TheirsMicros) * time.Microsecond)
		if r.Kind == "intent" && m.covers(r) && !late[r.Seq] && came.After(m.Done) {
			out.Passed++
		}
	}
	out.PassedTold = all && whole
	return out, nil
}

// records are those that a filter selects, and whether they are all.
func (v *visit) records(f admin.AuditFilter) (out []record, whole bool, err error) {
	list, err := v.api.Audit(v.ctx(), f)
	if err != nil {
		return nil, false, err
	}
	out, err = readRecords(list.Items)
	return out, list.Next == "", err
}

// nodes is how long each node of a cluster took; none where there is only one. refused is how many calls each refused, by what
// nodes call themselves in the record: a name and the end of an id.
func (m *measured) nodes(refused map[string]int64) (out []nodeTime, scale int64) {
	if m.Own == nil || m.Answer.DurableMS == 0 {
		return nil, 0
	}
	add := func(id string, n nodeTime) {
		for label, count := range refused {
			if i := strings.LastIndexByte(label, '/'); i >= 0 && strings.HasSuffix(id, label[i+1:]) {
				n.Refused += count
			}
		}
		out = append(out, n)
	}
	add(m.Own.ID, nodeTime{Name: m.Own.Name, Own: true, MS: m.Answer.DurableMS})
	for _, a := range m.Answer.Nodes {
		add(a.Node, nodeTime{Name: a.Name, Expired: a.Expired, MS: m.Answer.DurableMS + a.MS})
	}
	longest := 1.0
	for _, n := range out {
		longest = max(longest, n.MS)
	}
	scale = round(int64(longest) + 1)
	for i := range out {
		out[i].Width = perCent(out[i].MS / float64(scale))
	}
	return out, scale
}

// NodesWords says how many nodes refuse, and whether one had to be waited out.
func (a aftermath) NodesWords() string {
	expired := 0
	for _, n := range a.Nodes {
		if n.Expired {
			expired++
		}
	}
	if expired == 0 {
		return "none cut off"
	}
	return fmt.Sprintf("%s cut off: lease ran out", count(int64(expired)))
}

// maxMeasured is how many stops are remembered for their page. The audit has all of them, without the measurement.
const maxMeasured = 100

// measurements are the last stops. Safe for concurrent use.
type measurements struct {
	mu   sync.Mutex
	list []measured
}

func (m *measurements) keep(s measured) string {
	s.ID = rand.Text()[:10]
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list = append(m.list, s)
	if len(m.list) > maxMeasured {
		m.list = append([]measured(nil), m.list[1:]...)
	}
	return s.ID
}

func (m *measurements) find(id string) *measured {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.list {
		if m.list[i].ID == id {
			s := m.list[i]
			return &s
		}
	}
	return nil
}
