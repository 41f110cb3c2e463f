package sqlite_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/store/storetest"
)

// The calls of TestSizePerMillionCalls: of a hundred, so many are reads, denied, and writes that move money. What remains
// of the writes after refusals settles.
const (
	readsOfHundred   = 78
	deniedOfHundred  = 4
	refusedOfHundred = 2
	sizeKeys         = 200
	sizeDays         = 30
	sizeCallers      = 512
	sizeArchives     = 3 // as many files are made of what there is: the next ones take as much
)

// TestSizePerMillionCalls makes a store of calls as agents make them, over thirty days, and tells what each table takes of a
// million. KEYBRAKE_SIZE_CALLS says how many are made.
func TestSizePerMillionCalls(t *testing.T) {
	calls := 2_000
	if text := os.Getenv("KEYBRAKE_SIZE_CALLS"); text != "" {
		var err error
		if calls, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	s := &sizes{path: filepath.Join(t.TempDir(), "keybrake.db"), now: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}
	s.db = open(t, sqlite.Options{Path: s.path, Clock: s.clock})
	for k := range sizeKeys {
		s.versions = append(s.versions, storetest.Key(t, s.db, sizeKey(k)))
	}
	empty := s.db.Sizes(t)
	s.run(t, calls)
	if err := s.db.IndexNow(); err != nil {
		t.Fatal(err)
	}
	full := s.db.Sizes(t)
	var total int64
	t.Logf("%d calls: %d records, %d reservations", calls, s.db.Count(t, "audit"), s.db.Count(t, "reservations"))
	for _, name := range slices.Sorted(maps.Keys(full)) {
		grown := full[name] - empty[name]
		if total += grown; grown > 0 {
			t.Logf("%-24s %8.1f MB per million calls", name, float64(grown)/float64(calls))
		}
	}
	t.Logf("%-24s %8.1f MB per million calls", "together", float64(total)/float64(calls))
	if each := total / int64(calls); each < 1000 || each > 6000 {
		t.Errorf("a call takes %d bytes: docs/operating.md is not true any more", each)
	}
	s.archive(t, float64(s.db.Count(t, "audit"))/float64(calls))
}

// archive moves what may leave into files and tells what is left and what they take.
func (s *sizes) archive(t *testing.T, perCall float64) {
	s.mu.Lock()
	s.now = s.now.AddDate(1, 0, 0)
	s.mu.Unlock()
	var moved int64
	begin := time.Now()
	for range sizeArchives {
		n, err := s.db.Archive(t.Context(), s.clock().AddDate(0, 0, -90))
		if err != nil {
			t.Fatal(err)
		}
		moved += n
	}
	files, err := filepath.Glob(s.path + ".archive/*.gz")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	var packed int64
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		packed += info.Size()
	}
	each := float64(packed) / float64(moved)
	free, all := s.db.Pages(t)
	t.Logf("%d records in %d archive files after %s: %.1f MB per million records, %.1f MB per million calls; free for new rows: %.1f of %.1f MB",
		moved, len(files), time.Since(begin).Round(time.Millisecond), each, each*perCall, float64(free)/1e6, float64(all)/1e6)
	if each > 300 {
		t.Errorf("an archived record takes %.0f bytes: docs/operating.md is not true any more", each)
	}
	if folder := os.Getenv("KEYBRAKE_SIZE_KEEP"); folder != "" {
		if err := os.CopyFS(folder, os.DirFS(s.path+".archive")); err != nil {
			t.Fatal(err)
		}
	}
}

func sizeKey(n int) policy.KeyID { return policy.KeyID(fmt.Sprintf("key_m3h5rmae4t2n%04d", n)) }

type sizes struct {
	path     string
	db       *sqlite.DB
	versions []int64

	mu  sync.Mutex
	now time.Time
}

func (s *sizes) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// run makes the calls, from many callers at once, while the clock goes on by sizeDays in all.
func (s *sizes) run(t *testing.T, calls int) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range sizeCallers {
		wg.Go(func() {
			for n := range next {
				if err := s.call(t, n); err != nil {
					t.Error(err)
				}
			}
		})
	}
	step := sizeDays * 24 * time.Hour / time.Duration(calls)
	for n := range calls {
		next <- n
		s.mu.Lock()
		s.now = s.now.Add(step)
		s.mu.Unlock()
	}
	close(next)
	wg.Wait()
}

func (s *sizes) call(t *testing.T, n int) error {
	r := s.record(n)
	switch of := n * 37 % 100; {
	case of < readsOfHundred:
		r.Operation, r.Method, r.Route, r.Object = "charges.retrieve", "GET", "/v1/charges/{charge}", vendorID("ch_", n)
		return s.read(t, r)
	case of < readsOfHundred+deniedOfHundred:
		r.Kind, r.Status = audit.KindDenied, 403
		r.Deny(policy.Failure{
			Code: policy.CodeCapExceeded, Rule: "caps: refunds per day",
			Message: "This refund of $20.00 would exceed the cap of $500.00 per day on refunds: $490.00 is used, $10.00 is left until 2026-03-02T00:00:00Z.",
		})
		r.Kind = audit.KindDenied
		_, err := s.db.Log(t.Context(), &r)
		return err
	default:
		return s.write(t, n, r, of >= 100-refusedOfHundred)
	}
}

// record is what all records of a call say.
func (s *sizes) record(n int) audit.Record {
	return audit.Record{
		Kind: audit.KindIntent, Verdict: "allow", Key: sizeKey(n * 7919 % sizeKeys), KeyName: "agent-support-refunds-runner" + strconv.Itoa(n*7919%sizeKeys),
		Upstream: "up_3qxzuqzckn3alxeg", Mode: "test", Policy: "3493c70d03317746eff04263931445d7d3a79a788a8f217bd1215fd1b228f3bb",
		From: "10.0.0.7", UserAgent: "Stripe/v1 PythonBindings/13.0.1", RunID: "run-" + strconv.Itoa(n/50), Request: vendorID("req_kb", n),
		Customers: []policy.CustomerID{policy.CustomerID(vendorID("cus_", n%5000))}, OursMicros: int64(300 + n%900),
	}
}

// vendorID is an id as long and as hard to compress as Stripe's.
func vendorID(prefix string, n int) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	id := []byte(prefix)
	for x := uint64(n)*0x9E3779B97F4A7C15 + uint64(prefix[0]); len(id) < len(prefix)+24; x = x*6364136223846793005 + 1442695040888963407 {
		id = append(id, digits[(x>>33)%62])
	}
	return string(id)
}

func (s *sizes) read(t *testing.T, r audit.Record) error {
	intent := r
	e, err := s.db.Log(t.Context(), &intent)
	if err != nil {
		return err
	}
	outcome := r
	outcome.Kind, outcome.Verdict, outcome.Ref = audit.KindOutcome, "", e[0].Seq
	outcome.Status, outcome.UpstreamStatus, outcome.UpstreamRequest, outcome.TheirsMicros = 200, 200, vendorID("req_", int(e[0].Seq))[:18], 120_000
	_, err = s.db.Log(t.Context(), &outcome)
	return err
}

func (s *sizes) write(t *testing.T, n int, r audit.Record, refused bool) error {
	key := n * 7919 % sizeKeys
	effect := storetest.USD("refunds", int64(100+n%4000))
	caps := []policy.Cap{
		storetest.DayCap("refunds", 1<<40), {Resource: policy.AllResources, Per: policy.PerMonth, Unit: policy.UnitUSD, Limit: 1 << 60},
		{Resource: "refunds", Per: policy.PerHour, Unit: policy.UnitCalls, Limit: 1 << 40},
	}
	a := storetest.Admission(sizeKey(key), s.versions[key], caps, effect)
	r.Operation, r.Method, r.Route, r.Repeat = "refunds.create", "POST", "/v1/refunds", "first"
	r.Effects = []audit.Effect{{Bucket: "refunds", Amount: effect.Amount, USD: effect.USD}}
	intent := r
	a.Record, a.Upstream = &intent, r.Upstream
	a.Reserve.Upstream, a.Reserve.Customers = r.Upstream, r.Customers
	a.Reserve.IdemKey = fmt.Sprintf("%08x-4a5b-4c6d-8e7f-%012x", n*2654435761, n)
	a.Reserve.Fingerprint[0], a.Reserve.Fingerprint[1], a.Reserve.Fingerprint[2] = byte(n), byte(n>>8), byte(n>>16)
	a.Reserve.Sent = fmt.Appendf(nil, `{"m":"POST","p":"/v1/refunds","t":"/v1/refunds","v":"2026-08-26.dahlia","b":"amount=%d&charge=%s&metadata%%5Border%%5D=%d"}`, effect.Amount.Minor, vendorID("ch_", n), n)
	made, err := s.db.Admit(t.Context(), a)
	if err != nil || made.Verdict != policy.Allow {
		return fmt.Errorf("admit: %+v, %w", made, err)
	}
	end := storetest.Settle(made.Reservation)
	outcome := r
	outcome.Kind, outcome.Verdict, outcome.Ref, outcome.Status, outcome.UpstreamStatus = audit.KindOutcome, "", made.Entry.Seq, 200, 200
	outcome.Fate, outcome.UpstreamRequest, outcome.Reservation, outcome.TheirsMicros = "moved", vendorID("req_", n)[:18], int64(made.Reservation.ID), 240_000
	end.Fate.UpstreamRequest = outcome.UpstreamRequest
	if refused {
		end.Fate = ledger.Fate{State: ledger.Released, Proof: ledger.ProofRefused, UpstreamRequest: outcome.UpstreamRequest}
		outcome.Fate, outcome.Proof, outcome.Status, outcome.UpstreamStatus = "refused", "refused", 400, 400
	} else {
		object := policy.ObjectID(vendorID("re_", n))
		end.Fate.Moved = []ledger.Moved{{Amount: effect.Amount, Object: object}}
		outcome.Effects = []audit.Effect{{Bucket: "refunds", Amount: effect.Amount, USD: effect.USD, Object: string(object)}}
	}
	end.Record = &outcome
	_, err = s.db.Resolve(t.Context(), end)
	return err
}
