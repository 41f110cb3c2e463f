package gateway_test

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/gateway/wire"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/vault"
)

// attackFolder holds the corpus: one attack a file, which says what it tries and what must come of it. Its README says
// how to write one.
const attackFolder = "testdata/attacks"

// leastAttacks is how many there are at least.
const leastAttacks = 250

// attack is one file of the corpus.
type attack struct {
	name, tries string
	steps       []step
}

// step is one request of an attack.
type step struct {
	as      string // whose key {{key}} is
	status  int    // 0: the connection ends without an answer
	code    string // of the refusal; empty: it passes
	lookups int    // so many reads may reach Stripe
	shows   string // a text that the answer must have
	request string
}

func readAttacks(t *testing.T) (out []attack) {
	t.Helper()
	must(t, filepath.WalkDir(attackFolder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".http") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(attackFolder, path)
		if err != nil {
			return err
		}
		a, err := parseAttack(strings.TrimSuffix(name, ".http"), string(text))
		out = append(out, a)
		return err
	}))
	return out
}

// parseAttack reads "# name: value" lines, an empty line, the request; "---" and the same again for another step.
func parseAttack(name, text string) (attack, error) {
	a := attack{name: name}
	for part := range strings.SplitSeq(text, "\n---\n") {
		s := step{as: "listed", status: -1}
		head, request, ok := strings.Cut(part, "\n\n")
		if !ok {
			return a, fmt.Errorf("%s: no empty line before the request", name)
		}
		for line := range strings.SplitSeq(head, "\n") {
			field, value, ok := strings.Cut(strings.TrimPrefix(line, "# "), ": ")
			if !ok {
				return a, fmt.Errorf("%s: %q is not `# name: value`", name, line)
			}
			var err error
			switch field {
			case "tries":
				a.tries = value
			case "expect":
				err = s.expect(value)
			case "as":
				s.as = value
			case "look-ups":
				s.lookups, err = strconv.Atoi(value)
			case "shows":
				s.shows = value
			default:
				err = errors.New("it is none of tries, expect, as, look-ups, shows")
			}
			if err != nil {
				return a, fmt.Errorf("%s: %s: %w", name, field, err)
			}
		}
		if s.status < 0 {
			return a, fmt.Errorf("%s: it does not say what to expect", name)
		}
		s.request = strings.TrimSuffix(request, "\n")
		a.steps = append(a.steps, s)
	}
	return a, nil
}

// expect reads "400 keybrake_request_malformed", "200", or "closed".
func (s *step) expect(value string) (err error) {
	if value == "closed" {
		s.status = 0
		return nil
	}
	status, code, _ := strings.Cut(value, " ")
	s.code = code
	s.status, err = strconv.Atoi(status)
	return err
}

func TestTheCorpusIsWhole(t *testing.T) {
	attacks := readAttacks(t)
	if len(attacks) < leastAttacks {
		t.Errorf("%d attacks, there must be %d", len(attacks), leastAttacks)
	}
	tried, sent := make(map[string]string), make(map[string]string)
	for _, a := range attacks {
		last := a.steps[len(a.steps)-1]
		if len(a.tries) < 12 {
			t.Errorf("%s says %q of what it tries", a.name, a.tries)
		}
		if other := tried[a.tries]; other != "" {
			t.Errorf("%s and %s try the same", a.name, other)
		}
		key := fmt.Sprint(a.steps)
		if other := sent[key]; other != "" {
			t.Errorf("%s and %s send the same", a.name, other)
		}
		tried[a.tries], sent[key] = a.name, a.name
		if last.status != 0 && last.status < 400 && last.shows == "" {
			t.Errorf("%s ends with a pass and does not say what is to be shown", a.name)
		}
	}
}

// attackRange is where attacks are tried: a gateway behind the guard of its listener, with keys of several kinds.
type attackRange struct {
	*world
	keys map[string]string
	// impatient is the address for requests that pause, whose limits are short. At URL a request has time enough, however busy
	// the machine is.
	impatient string
}

// TestEveryAttackIsRefusedAndRecorded sends the corpus over real sockets. Passed means: refused as the file says, on
// record, nothing written at Stripe, no more read there than the file allows, and no word of a foreign customer or secret in
// the answer.
func TestEveryAttackIsRefusedAndRecorded(t *testing.T) {
	r := newRange(t)
	for _, a := range readAttacks(t) {
		t.Run(a.name, func(t *testing.T) {
			clear(r.keys)
			for i, s := range a.steps {
				r.try(t, fmt.Sprintf("step %d", i+1), s)
			}
		})
	}
}

// key makes a vault key of a kind, once for each attack: what one key has been refused a second before folds.
func (r *attackRange) key(t *testing.T, as string) string {
	t.Helper()
	if secret, made := r.keys[as]; made || as == "none" {
		return secret
	}
	ada := r.Seeded.Customers[0].ID
	const caps = "caps:\n  - {resource: refunds, per: day, usd: 100.00}\n  - {resource: refunds, per: call, usd: 50.00}\n"
	const scopes = "scopes: {charges: read, payment_intents: read, customers: read, refunds: write}\n"
	yaml, known := map[string]string{
		"listed":  scopes + caps + "customers: [" + ada + "]\n",
		"open":    "scopes: {\"*\": write}\nuncapped: true\nunmetered: [\"*\"]\ncustomers: any\n",
		"wide":    "scopes: {\"*\": write}\ncaps: [{resource: \"*\", per: day, usd: 100.00}]\ncustomers: [" + ada + "]\n",
		"capped":  "scopes: {\"*\": write}\ncaps: [{resource: \"*\", per: day, usd: 100.00}]\ncustomers: any\n",
		"reading": "scopes: {\"*\": read}\ncustomers: [" + ada + "]\n",
		"network": scopes + caps + "customers: any\nnetwork: [192.0.2.0/24]\n",
	}[as]
	if !known {
		yaml = scopes + caps + "customers: any\n" // any, killed, slowed, revoked, expired
	}
	secret, k := r.world.key("name: agent-attack-" + as + "-t\n" + yaml)
	r.keys[as] = secret
	_, err := r.Ring.ChangeKey(k.ID, func(k vault.Key) vault.Key {
		switch as {
		case "revoked":
			k.Revoked = r.Clock.Now().Add(-time.Hour)
		case "expired":
			k.Expires = r.Clock.Now().Add(-time.Hour)
		}
		return k
	})
	must(t, err)
	switch as {
	case "killed":
		_, err = r.Ring.SetBrake(vault.Scope{Key: k.ID}, vault.Stopped)
	case "slowed":
		_, err = r.Ring.SetBrake(vault.Scope{Key: k.ID}, vault.ReadOnly)
	}
	must(t, err)
	return secret
}

func newRange(t *testing.T) *attackRange {
	r := &attackRange{world: newWorld(t), keys: make(map[string]string)}
	r.partial.Store(true) // raw requests are not counted
	r.URL = r.listen(t, time.Minute, time.Minute)
	r.impatient = r.listen(t, 300*time.Millisecond, 600*time.Millisecond)
	return r
}

// listen serves the gateway behind its guard, with limits for a head and for a whole request.
func (r *attackRange) listen(t *testing.T, head, whole time.Duration) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := &http.Server{
		Handler: r.Gateway, ReadHeaderTimeout: head, ReadTimeout: whole, IdleTimeout: head,
		DisableGeneralOptionsHandler: true, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(wire.Listen(l, wire.Limits{OnRefused: func(from net.Addr, why wire.Reason) string {
			return r.Gateway.Refused(from, string(why))
		}}))
	}()
	t.Cleanup(func() { must(t, server.Close()); <-done })
	return "http://" + l.Addr().String()
}

// try sends one request and judges what came of it.
func (r *attackRange) try(t *testing.T, at string, s step) {
	t.Helper()
	before := r.Sandbox.Arrivals()
	got, err := r.send(r.fill(t, s))
	arrived := r.Sandbox.Journal()[before:]
	if s.status == 0 {
		if err == nil {
			t.Fatalf("%s: it is answered with %d %s", at, got.Status, got.Raw)
		}
		if len(arrived) > 0 {
			t.Fatalf("%s: it reached Stripe: %+v", at, arrived)
		}
		return
	}
	must(t, err)
	reason := got.errCode()
	if own := got.reason(); own != "" {
		reason = own
	}
	if got.Status != s.status || reason != s.code {
		t.Fatalf("%s: %d %s, want %d %s: %s", at, got.Status, reason, s.status, s.code, got.Raw)
	}
	if !strings.Contains(got.Raw, s.shows) {
		t.Errorf("%s: the answer does not show %q: %s", at, s.shows, got.Raw)
	}
	r.leaksNothing(t, at, s, got)
	if s.code == "" {
		return
	}
	reads := 0
	for _, a := range arrived {
		if a.Method != http.MethodGet {
			t.Fatalf("%s: it wrote at Stripe: %+v", at, a)
		}
		reads++
	}
	if reads > s.lookups {
		t.Errorf("%s: %d reads at Stripe, %d are allowed: %+v", at, reads, s.lookups, arrived)
	}
	r.recorded(t, at, s, got)
}

// recorded holds the refusal against its record.
func (r *attackRange) recorded(t *testing.T, at string, s step, got reply) {
	t.Helper()
	_, seq, err := audit.ParseID(got.Header.Get("Keybrake-Audit-Id"))
	records := r.records()
	if err != nil || seq < 1 || seq > int64(len(records)) {
		t.Fatalf("%s: its record is %q of %d: %v", at, got.Header.Get("Keybrake-Audit-Id"), len(records), err)
	}
	rec := records[seq-1]
	told := slices.ContainsFunc(rec.Failures, func(f policy.Failure) bool { return string(f.Code) == s.code })
	if rec.Verdict != "deny" && rec.Kind != audit.KindIntent || rec.Kind != audit.KindIntent && !told {
		t.Errorf("%s: recorded as %+v", at, rec)
	}
	text := string(r.entries()[seq-1].Bytes)
	if secret := r.keys[s.as]; secret != "" && strings.Contains(text, secret) {
		t.Errorf("%s: the vault key is in the record", at)
	}
}

// leaksNothing looks for what no answer may show: Ben's words to a key that is for Ada, Stripe's key, client secrets.
func (r *attackRange) leaksNothing(t *testing.T, at string, s step, got reply) {
	t.Helper()
	text := got.Raw + fmt.Sprint(got.Header)
	secrets := []string{upstreamSecret, "_secret_", "4242424242424242"}
	if s.as == "listed" || s.as == "wide" || s.as == "reading" {
		ben := r.Seeded.Customers[1]
		secrets = append(secrets, ben.Email, ben.Graph.Canary)
	}
	for _, word := range secrets {
		if strings.Contains(text, word) {
			t.Errorf("%s: the answer shows %q: %s", at, word, got.Raw)
		}
	}
}

var placeholder = regexp.MustCompile(`\{\{([^}]+)\}\}`)

// fill writes the request as it goes over the wire: lines of the head end in CR LF, placeholders are filled in.
func (r *attackRange) fill(t *testing.T, s step) string {
	t.Helper()
	head, body, _ := strings.Cut(s.request, "\n\n")
	body = r.expand(t, s, body)
	head = strings.ReplaceAll(head, "{{length}}", strconv.Itoa(len(body)))
	head = r.expand(t, s, strings.ReplaceAll(head, "\n", "\r\n"))
	return head + "\r\n\r\n" + body
}

func (r *attackRange) expand(t *testing.T, s step, text string) string {
	return placeholder.ReplaceAllStringFunc(text, func(whole string) string {
		word, rest, _ := strings.Cut(whole[2:len(whole)-2], " ")
		switch word {
		case "key":
			return r.key(t, s.as)
		case "lf":
			return "\n"
		case "crlf":
			return "\r\n"
		case "pause":
			return pause
		case "bytes":
			raw, err := hex.DecodeString(strings.ReplaceAll(rest, " ", ""))
			must(t, err)
			return string(raw)
		case "repeat":
			n, of, _ := strings.Cut(rest, " ")
			times, err := strconv.Atoi(n)
			must(t, err)
			return strings.Repeat(of, times)
		case "basic":
			return basicAuth(r.key(t, s.as))
		case "other":
			return flip(r.key(t, "any"))
		}
		if v, ok := r.named(word); ok {
			return v
		}
		t.Fatalf("{{%s}} is no placeholder", word)
		return ""
	})
}

// named are the objects that attacks aim at.
func (r *attackRange) named(word string) (string, bool) {
	who, what, _ := strings.Cut(word, ".")
	for i, name := range []string{"ada", "ben"} {
		if who != name {
			continue
		}
		c := r.Seeded.Customers[i]
		v, ok := map[string]string{
			"": c.ID, "charge": c.Charges[0], "charge2": c.Charges[1], "intent": c.PaymentIntent, "invoice": c.Invoice, "card": c.Card, "email": c.Email,
			"subscription": c.Graph.Subscription, "schedule": c.Graph.Schedule, "setup": c.Graph.SetupIntent, "paid": c.Graph.PaidInvoice,
			"note": c.Graph.CreditNote, "quote": c.Graph.Quote, "session": c.Graph.Session, "tax": c.Graph.TaxID, "code": c.Graph.PromotionCode,
			"grant": c.Graph.CreditGrant, "canary": c.Graph.Canary,
		}[what]
		return v, ok
	}
	v, ok := map[string]string{"account": r.Seeded.Account, "product": r.Seeded.Product, "price": r.Seeded.Price, "payout": r.Seeded.Payout}[word]
	return v, ok
}

// pause stands in a request where its sender waits.
const pause = "\x00pause\x00"

// send writes a request, pausing where it says so, and reads one answer.
func (r *attackRange) send(request string) (reply, error) {
	at := r.URL
	if strings.Contains(request, pause) {
		at = r.impatient
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(at, "http://"))
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return reply{}, err
	}
	go func() {
		for part := range strings.SplitSeq(request, pause) {
			if _, err := io.WriteString(conn, part); err != nil {
				return // refused before all of it was read
			}
			time.Sleep(250 * time.Millisecond)
		}
	}()
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	got := reply{Status: resp.StatusCode, Header: resp.Header, Raw: string(body)}
	_ = json.Unmarshal(body, &got.Body) // a body that is no JSON shows in Raw
	return got, err
}
