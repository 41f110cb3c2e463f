package gateway

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/money"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/vault"
)

// newToken returns 26 characters of 128 random bits.
func newToken() string { return rand.Text() }

// auditID names the call's intent record; empty before there is one.
func (j *journey) auditID() string {
	if j.admitted.Entry.Seq == 0 {
		return ""
	}
	return audit.ID(audit.FirstChain, j.admitted.Entry.Seq)
}

// who fills in what is known about where a call comes from.
func (j *journey) who(r *audit.Record) {
	r.Request, r.UserAgent, r.RunID, r.From = j.request, j.agent, j.run, j.from.String()
	r.Method = j.raw.Method
	if j.key != nil {
		r.Key, r.KeyName, r.Upstream, r.Mode = j.key.ID, j.key.Name, j.key.Upstream, j.key.Mode.String()
		r.Policy = j.key.PolicyDigest
	} else {
		r.Presented = vault.Mask(j.presented)
	}
	if j.call != nil {
		op := &j.call.Operation
		r.Operation, r.Route, r.Account, r.Customers = op.Name, j.call.Template, cmp.Or(op.Account, j.call.Account), op.Customer.Customers
		r.Object = pathID(j.call.Template, j.call.Path)
	}
	r.OursMicros = (time.Since(j.start) - j.theirs).Microseconds()
	r.TheirsMicros = j.theirs.Microseconds()
}

// pathID returns what the path has in place of the template's last placeholder; empty if it has none.
func pathID(template, path string) string {
	id := ""
	for template != "" && path != "" {
		var want, got string
		want, template, _ = strings.Cut(template, "/")
		got, path, _ = strings.Cut(path, "/")
		if strings.HasPrefix(want, "{") {
			id = got
		}
	}
	return id
}

// intent is the record of a call before it leaves (or is refused).
func (g *Gateway) intent(j *journey) *audit.Record {
	r := &audit.Record{
		Kind: audit.KindIntent, Trace: j.trace.ID, ParentSpan: j.trace.Parent, Span: j.trace.Span, TraceState: j.trace.State,
	}
	j.who(r)
	if j.credential != nil {
		r.Credential = string(j.credential.Last4[:])
	}
	if j.call != nil {
		r.Judge(&j.call.Operation, !j.unread)
	}
	r.Shadowed = j.decision.Shadowed
	r.Failures = append(r.Failures, j.decision.Failures...) // under shadow: what enforcement would have said
	switch {
	case j.resend != nil:
		r.Repeat = "attached"
	case j.call != nil && j.attaches():
		r.Repeat = "first" // or anew: the store knows
	}
	return r
}

// outcomeRecord is the record of what became of a call.
func (g *Gateway) outcomeRecord(j *journey, answer *upstream.Answer, o upstream.Outcome) *audit.Record {
	r := &audit.Record{Kind: audit.KindOutcome, Ref: j.admitted.Entry.Seq}
	j.who(r)
	j.fate = o.Fate.String()
	r.Fate, r.Why, r.Replayed, r.UpstreamRequest = o.Fate.String(), o.Why, o.Replayed, o.RequestID
	r.Created = o.NewCustomer
	r.Customers = slices.Clip(r.Customers) // the operation's own
	for _, id := range o.Customers {
		if !slices.Contains(r.Customers, id) {
			r.Customers = append(r.Customers, id)
		}
	}
	if answer != nil {
		r.UpstreamStatus = answer.Status
		j.upstreamStatus = answer.Status
	}
	for i, m := range o.Moved {
		effect := audit.Effect{Amount: m.Amount, Object: string(m.Object)}
		if i < len(j.call.Operation.Effects) {
			e := &j.call.Operation.Effects[i]
			effect.Bucket, effect.Rate = string(e.Bucket), e.Quote.Rate
			effect.USD = usd(e.Quote, m.Amount.Minor)
		}
		r.Effects = append(r.Effects, effect)
	}
	return r
}

// usd converts for the record; what does not convert shows as zero there, the ledger has its own rules.
func usd(q money.Quote, minor int64) money.USD {
	v, err := q.USD(minor)
	if err != nil {
		return 0
	}
	return v
}

// recordDenial writes the record of a refusal and returns its id. Refusals like one that was just
// written are counted instead (a scan must not fill the disk) and go by the id of that one.
func (g *Gateway) recordDenial(ctx context.Context, j *journey, r *audit.Record) (string, error) {
	j.judged()
	start := time.Now()
	defer func() { j.took.Admit += time.Since(start) }()
	group, first := g.folder.Fold(r, g.Store.Now())
	if !first {
		seq := group.Await()
		if seq == 0 {
			return "", errNotWritten
		}
		j.folded, j.foldedInto = true, audit.ID(audit.FirstChain, seq)
		return j.foldedInto, nil
	}
	entries, err := g.Store.Log(ctx, r)
	if err != nil {
		group.Wrote(0)
		return "", err
	}
	group.Wrote(entries[0].Seq)
	j.admitted.Entry = entries[0]
	return j.auditID(), nil
}

// errNotWritten says that the denial that a denial was counted with is not on record.
var errNotWritten = errors.New("the record of an equal denial could not be written")

// flushFolds writes what was counted, once a second and at the end.
func (g *Gateway) flushFolds() {
	tick := time.NewTicker(foldEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			g.writeFolds(g.folder.Flush(g.Store.Now()))
		case <-g.quit:
			g.writeFolds(g.folder.Drain(g.Store.Now()))
			return
		}
	}
}

func (g *Gateway) writeFolds(records []*audit.Record) {
	if len(records) == 0 {
		return
	}
	g.tellFolds(records)
	if _, err := g.Store.Log(context.Background(), records...); err != nil {
		g.Log.Warn("counts of folded denials were not recorded", "kinds", len(records), "err", err)
	}
}

// Refused records a connection that the wire guard turned away before it was a request, and returns the
// record's id; empty if it could not be written. Equal ones fold like any other denial.
func (g *Gateway) Refused(from net.Addr, what string) (auditID string) {
	j := &journey{start: time.Now(), raw: &upstream.RawCall{}}
	if at, err := netip.ParseAddrPort(from.String()); err == nil {
		j.from = at.Addr().Unmap()
	}
	defer g.tell(j)
	record := g.intent(j)
	j.code, j.rule, j.status = policy.CodeMalformed, "wire", http.StatusBadRequest
	record.Deny(policy.Failure{Code: j.code, Rule: j.rule, Message: what})
	record.Status = j.status
	id, err := g.recordDenial(context.Background(), j, record)
	if err != nil {
		g.Log.Warn("a refused connection was not recorded", "from", from.String(), "err", err)
	}
	return id
}

// join puts a created customer into the key's list in memory, as the store has it.
func (g *Gateway) join(id policy.KeyID, c policy.CustomerID) error {
	_, err := g.Ring.ChangeKey(id, func(k vault.Key) vault.Key {
		if !slices.Contains(k.Joined, c) {
			k.Joined = append(k.Joined[:len(k.Joined):len(k.Joined)], c)
		}
		return k
	})
	return err
}

// remaining tells how much the call's caps have left: "refunds/day=80.00, refunds/hour=29calls".
func remaining(caps []store.CapState) string {
	var b strings.Builder
	for i, c := range caps {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(c.Cap.Resource) + "/" + c.Cap.Per.String() + "=")
		if c.Cap.Unit == policy.UnitCalls {
			fmt.Fprintf(&b, "%dcalls", c.Left)
		} else {
			b.WriteString(money.USD(c.Left).String())
		}
	}
	return b.String()
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
