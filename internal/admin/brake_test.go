package admin

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// watch runs what serve runs beside the API.
func (w *world) watch(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s := w.Service
	go func() {
		defer close(done)
		s.WatchKillFile(ctx, s.KillFile)
	}()
	t.Cleanup(func() { cancel(); <-done })
}

func TestAStopHoldsOnTheNextCallAndAfterARestart(t *testing.T) {
	for name, target := range map[string]Target{
		"a key by name": {Keys: []string{"agent-support-refunds-one"}},
		"keys by glob":  {Match: "agent-*-one"},
		"an upstream":   {Upstream: "stripe-test"},
		"everything":    {All: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			k := w.key(t, "agent-support-refunds-one")
			got, err := w.client.Kill(t.Context(), KillRequest{Target: target, Reason: "loop"})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{k.ID}, got.Stopped); diff != "" || got.Mode != "stopped" || len(got.Failed) != 0 || got.Warning != "" {
				t.Errorf("%+v %s", got, diff)
			}
			if w.passes(t, k.Key, false) {
				t.Error("a read passes")
			}
			w.restart(t)
			if w.passes(t, k.Key, false) {
				t.Error("a read passes after a restart")
			}
			back, err := w.client.Resume(t.Context(), ResumeRequest{Target: target, Reason: "fixed"})
			if err != nil || len(back.Still) != 0 || len(back.Resumed) != 1 {
				t.Fatalf("%+v, %v", back, err)
			}
			if !w.passes(t, k.Key, true) {
				t.Error("nothing passes after the resumption")
			}
		})
	}
}

func TestAnUnknownKeyDoesNotKeepTheOthersFromStopping(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	got, err := w.client.Kill(t.Context(), KillRequest{Target: Target{Keys: []string{"nobody", k.Name, k.ID}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Stopped) != 1 || len(got.Failed) != 1 || got.Failed[0].Key != "nobody" {
		t.Errorf("%+v", got)
	}
	if w.passes(t, k.Key, false) {
		t.Error("it passes")
	}
}

func TestNoStopIsRefusedForALongReason(t *testing.T) {
	w := newWorld(t)
	w.key(t, "agent-support-refunds-one")
	if _, err := w.client.Kill(t.Context(), KillRequest{Target: Target{All: true}, Reason: strings.Repeat("é", maxReason+1)}); err != nil {
		t.Fatal(err)
	}
	if on := w.Brakes(); len(on) != 1 || on[0].Reason != strings.Repeat("é", maxReason) {
		t.Errorf("%+v", on)
	}
}

func TestBrakesAreIndependent(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	key := Target{Keys: []string{k.ID}}
	for _, target := range []Target{key, {Upstream: "stripe-test"}, {All: true}} {
		if _, err := w.client.Kill(t.Context(), KillRequest{Target: target}); err != nil {
			t.Fatal(err)
		}
	}
	back, err := w.client.Resume(t.Context(), ResumeRequest{Target: key, Reason: "fixed"})
	if err != nil {
		t.Fatal(err)
	}
	var still []string
	for _, b := range back.Still {
		still = append(still, b.Scope+" "+b.Name+" "+b.Mode)
	}
	if diff := cmp.Diff([]string{"all  stopped", "upstream stripe-test stopped"}, still); diff != "" {
		t.Error(diff)
	}
	if w.passes(t, k.Key, false) {
		t.Error("it passes under two brakes")
	}
}

func TestReadOnlyLetsReadsPassAndLoosensNothing(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	kill := func(readOnly bool) {
		t.Helper()
		if _, err := w.client.Kill(t.Context(), KillRequest{Target: Target{Keys: []string{k.ID}}, ReadOnly: readOnly}); err != nil {
			t.Fatal(err)
		}
	}
	kill(true)
	if !w.passes(t, k.Key, false) || w.passes(t, k.Key, true) {
		t.Error("read-only: reads pass, writes do not")
	}
	kill(false)
	kill(true)
	if w.passes(t, k.Key, false) {
		t.Error("read-only loosened a stop")
	}
	w.restart(t)
	if w.passes(t, k.Key, false) {
		t.Error("read-only loosened a stop in the store")
	}
}

func TestCallsInFlightAreCounted(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	key, _ := w.Ring.FindKey(k.ID)
	for range 3 {
		flight, failure := w.Ring.Depart(key, true)
		if failure != nil {
			t.Fatal(failure)
		}
		defer flight.Land()
	}
	got, err := w.client.Kill(t.Context(), KillRequest{Target: Target{All: true}})
	if err != nil || got.InFlight != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	list, err := w.client.Brakes(t.Context())
	if err != nil || list.InFlight != 3 || len(list.Items) != 1 || list.Items[0].Scope != "all" || list.Items[0].Actor != "local" {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestAStopWithoutAStoreHoldsAndIsLeftInAFile(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	if err := w.db.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := w.client.Kill(t.Context(), KillRequest{Target: Target{Keys: []string{k.Name}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Stopped) != 1 || !strings.Contains(got.Warning, w.KillFile) {
		t.Errorf("%+v", got)
	}
	if w.passes(t, k.Key, false) {
		t.Error("it passes")
	}
	if _, err := w.client.Resume(t.Context(), ResumeRequest{Target: Target{Keys: []string{k.ID}}, Reason: "x"}); err == nil {
		t.Error("a resumption that is not durable was accepted")
	}
	w.server.Close()
	w.start(t) // the store is whole again: the file is applied before anything passes
	if w.passes(t, k.Key, false) {
		t.Error("it passes after the restart")
	}
	if _, err := os.Stat(w.KillFile + appliedSuffix); err != nil {
		t.Error(err)
	}
	last := w.records(t)
	if rec := last[len(last)-1]; rec.Operator != killFileActor || rec.Action != "kill" || rec.Key != policy.KeyID(k.ID) {
		t.Errorf("%+v", rec)
	}
}

func TestTheKillFileStopsWhileTheServerRuns(t *testing.T) {
	for name, c := range map[string]struct {
		content       string
		reads, writes bool
	}{
		"all":                      {"all\n", false, false},
		"read-only":                {"all read-only\n", true, false},
		"the upstream by name":     {"upstream:stripe-test", false, false},
		"the key by name":          {"key:agent-support-refunds-one\n", false, false},
		"the key read-only":        {"\n key:agent-support-refunds-one read-only \n", true, false},
		"nothing in it":            {"", false, false},
		"blanks":                   {" \n\n", false, false},
		"something else":           {"please stop the refunds\n", false, false},
		"another upstream and all": {"upstream:nope\nall\n", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			k := w.key(t, "agent-support-refunds-one")
			w.watch(t)
			w.server.Close() // the admin port is dead
			if err := os.WriteFile(w.KillFile, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			until(t, "the file is applied", func() bool {
				_, err := os.Stat(w.KillFile + appliedSuffix)
				return err == nil
			})
			if got := w.passes(t, k.Key, false); got != c.reads {
				t.Errorf("reads pass: %t", got)
			}
			if got := w.passes(t, k.Key, true); got != c.writes {
				t.Errorf("writes pass: %t", got)
			}
			if _, err := os.Stat(w.KillFile); err == nil {
				t.Error("the file is still there")
			}
		})
	}
}

func TestAnUnreadableKillFileStopsEverything(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	if err := os.Mkdir(w.KillFile, 0o700); err != nil {
		t.Fatal(err)
	}
	w.applyKillFile(t.Context(), w.KillFile)
	if w.passes(t, k.Key, false) {
		t.Error("it passes")
	}
}

func TestStopsInAKillFileAddUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db"+killSuffix)
	for _, lines := range [][]string{{"key:a"}, {"key:b read-only"}} {
		if err := WriteKillFile(path, lines); err != nil {
			t.Fatal(err)
		}
	}
	read := func() string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := read(); got != "key:a\nkey:b read-only\n" {
		t.Errorf("%q", got)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteKillFile(path, []string{"key:c"}); err != nil {
		t.Fatal(err)
	}
	if got := read(); got != "all\nkey:c\n" {
		t.Errorf("%q: an empty file meant everything", got)
	}
}

func TestWhatKillLinesWriteParseKillLinesReads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z][a-z0-9._:@/-]{0,20}`)
		req := KillRequest{ReadOnly: rapid.Bool().Draw(t, "read-only"), Reason: "KILL file"}
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			req.All = true
		case 1:
			req.Upstream = name.Draw(t, "upstream")
		default:
			req.Keys = rapid.SliceOfNDistinct(name, 1, 5, rapid.ID[string]).Draw(t, "keys")
		}
		lines, err := KillLines(req)
		if err != nil {
			t.Fatal(err)
		}
		got := parseKillLines([]byte(strings.Join(lines, "\n")))
		if diff := cmp.Diff([]KillRequest{req}, got); diff != "" {
			t.Error(diff)
		}
	})
}

// FuzzParseKillLines: whatever is in the file, something is stopped.
func FuzzParseKillLines(f *testing.F) {
	for _, seed := range []string{"", "all", "key:", "upstream:x read-only", "key:a\nkey:b", "\x00", "ALL"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got := parseKillLines(b)
		if len(got) == 0 {
			t.Fatal("nothing")
		}
		for _, r := range got {
			if !r.All && r.Upstream == "" && len(r.Keys) == 0 {
				t.Fatalf("%+v stops nothing", r)
			}
		}
	})
}

func TestBrakesThatChangeInTheStoreAreShown(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	put := func(f func(store.Tx) error) {
		t.Helper()
		if err := w.db.Update(t.Context(), store.LaneControl, f); err != nil {
			t.Fatal(err)
		}
		if err := w.syncBrakes(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	id := policy.KeyID(k.ID)
	put(func(tx store.Tx) error { // as another node would
		return tx.PutBrake(store.BrakeRow{Scope: store.KeyScope(id), Mode: vault.Stopped, At: tx.Now()})
	})
	if w.passes(t, k.Key, false) {
		t.Error("a stop of another node is not seen")
	}
	put(func(tx store.Tx) error { _, err := tx.LiftBrake(store.KeyScope(id)); return err })
	if !w.passes(t, k.Key, true) {
		t.Error("a resumption of another node is not seen")
	}
	put(func(tx store.Tx) error { // as the store does when too much moved
		return tx.PutBrake(store.BrakeRow{Scope: store.FreezeScope(id), Mode: vault.ReadOnly, Reason: "too much moved", At: tx.Now()})
	})
	shown, err := w.client.Key(t.Context(), k.ID)
	if err != nil || shown.Frozen != "too much moved" {
		t.Errorf("%+v, %v", shown.Frozen, err)
	}
	if _, err := w.client.RotateKey(t.Context(), k.ID, Rotation{}); err != nil {
		t.Fatal(err)
	}
	if key, _ := w.Ring.FindKey(k.ID); len(key.Frozen) == 0 {
		t.Error("a change of the key lost its freeze")
	}
	if _, err := w.client.Resume(t.Context(), ResumeRequest{Target: Target{Keys: []string{k.ID}}, Reason: "looked at"}); err != nil {
		t.Fatal(err)
	}
	if key, _ := w.Ring.FindKey(k.ID); len(key.Frozen) != 0 {
		t.Error("still frozen")
	}
}

// TestALookThatBeganBeforeAResumptionDoesNotUndoIt: rows that were read before it stop nothing any more, and those that another
// node wrote after it do.
func TestALookThatBeganBeforeAResumptionDoesNotUndoIt(t *testing.T) {
	w := newWorld(t)
	k := w.key(t, "agent-support-refunds-one")
	target := Target{Keys: []string{k.ID}}
	look := func() (int64, []store.BrakeRow) {
		t.Helper()
		height, rows, err := w.readBrakes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return height, rows
	}
	if _, err := w.client.Kill(t.Context(), KillRequest{Target: target}); err != nil {
		t.Fatal(err)
	}
	obeyOld, obeyNew := w.Obeying(), w.Obeying()
	height, rows := look()
	if _, err := w.client.Resume(t.Context(), ResumeRequest{Target: target, Reason: "looked at"}); err != nil {
		t.Fatal(err)
	}
	obeyOld(height, rows)
	if !w.passes(t, k.Key, true) {
		t.Error("what was read before the resumption stops the key again")
	}
	err := w.db.Update(t.Context(), store.LaneBrake, func(tx store.Tx) error { // as another node would
		if err := tx.PutBrake(store.BrakeRow{Scope: store.KeyScope(policy.KeyID(k.ID)), Mode: vault.Stopped, At: tx.Now()}); err != nil {
			return err
		}
		_, err := tx.Append(&audit.Record{Kind: audit.KindOperator, Action: "kill"})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	obeyNew(look())
	if w.passes(t, k.Key, false) {
		t.Error("a stop that came after the resumption is not obeyed")
	}
}

// TestNoResumptionElsewhereUndoesAStop: stops and resumptions of many scopes at once, with the poll running.
// After a stop has returned and nobody resumes that scope, nothing passes; in the end memory is what the rows say.
func TestNoResumptionElsewhereUndoesAStop(t *testing.T) {
	w := newWorld(t)
	stopped := w.key(t, "agent-a-b-stopped")
	w.key(t, "agent-a-b-one")
	w.key(t, "agent-a-b-two")
	w.watch(t)
	var wg sync.WaitGroup
	for _, name := range []string{"agent-a-b-one", "agent-a-b-two"} {
		wg.Go(func() {
			target := Target{Keys: []string{name}}
			for range 30 {
				if _, err := w.Kill(t.Context(), Actor{Name: "x", Role: vault.RoleAdmin}, KillRequest{Target: target}); err != nil {
					t.Error(err)
				}
				if _, err := w.Resume(t.Context(), Actor{Name: "x", Role: vault.RoleAdmin}, ResumeRequest{Target: target, Reason: "x"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	if _, err := w.Kill(t.Context(), Actor{Name: "x", Role: vault.RoleAdmin}, KillRequest{Target: Target{Keys: []string{stopped.ID}}}); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if w.passes(t, stopped.Key, false) {
			t.Fatal("it passes")
		}
	}
	wg.Wait()
	if w.passes(t, stopped.Key, false) {
		t.Error("it passes")
	}
	for _, name := range []string{"agent-a-b-one", "agent-a-b-two"} {
		until(t, name+" is normal", func() bool { k, _ := w.Ring.FindKey(name); return k.Brake == vault.Normal })
	}
}

func TestZeroValuesStopNothingByAccident(t *testing.T) {
	if Kind(0) != Invalid || statusOf(Kind(0)) != 400 || statusOf(Kind(99)) != 400 {
		t.Error("the zero kind must be a refusal")
	}
}
