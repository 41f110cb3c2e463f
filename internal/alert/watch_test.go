package alert

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/store"
)

func TestWhatIsWrongIsOneAlertAndToldOnce(t *testing.T) {
	w := newWorld(t, paper("all"))
	w.seen.Denials = []DenialBurst{refused("a", 40)}
	w.look(t)
	first := w.only(t)
	for range 400 { // 13 minutes: longer than `refreshed`
		w.look(t)
	}
	now := w.only(t)
	if now.ID != first.ID || !now.First.Equal(first.First) {
		t.Errorf("the alert became another: %+v, then %+v", first, now)
	}
	if !now.Last.After(first.Last) {
		t.Error("the store is never told that it still is so")
	}
	sameEvents(t, w.events(t, "all"), []string{"opened denials warning"})
	told := w.told(t, "all")[0]
	if told.ID != first.ID || told.Key != "a" || told.URL != "https://keybrake.example.com/keys/a" || told.Title == "" || !told.Since.Equal(first.First) {
		t.Errorf("the message says %+v", told)
	}
}

func TestASubjectSeenTwiceInOneLookIsOneAlert(t *testing.T) {
	w := newWorld(t, paper("all"))
	w.seen.Denials = []DenialBurst{refused("a", 40), refused("a", 50)}
	w.look(t)
	w.only(t)
	sameEvents(t, w.events(t, "all"), []string{"opened denials warning"})
}

func TestWorseIsToldAndBetterIsNot(t *testing.T) {
	w := newWorld(t, paper("all"))
	for _, perCent := range []int{49, 50, 60, 80, 79, 85, 100, 90, 101} {
		w.seen.Caps = []Cap{used("a", perCent)}
		w.look(t)
		w.pass(refreshed) // so that what is better is written down
		w.look(t)
	}
	sameEvents(t, w.events(t, "all"), []string{"opened cap info", "worse cap warning", "worse cap critical"})
	if r := w.only(t); r.Severity != string(Critical) || r.ToldSeverity != string(Critical) {
		t.Errorf("the alert is %s, told as %s", r.Severity, r.ToldSeverity)
	}
}

func TestWhatComesBack(t *testing.T) {
	refusals := func(w *world, there bool) {
		w.seen.Denials = nil
		if there {
			w.seen.Denials = []DenialBurst{refused("a", 40)}
		}
	}
	brake := func(w *world, there bool) {
		w.seen.Brakes = nil
		if there {
			w.seen.Brakes = []BrakeOn{stopped("a")}
		}
	}
	for _, tt := range []struct {
		name  string
		again time.Duration // of the config file
		is    func(*world, bool)
		gone  time.Duration
		same  bool // it is the same alert
		want  []string
	}{
		{"refusals after half an hour are the same and not told again", 0, refusals, 30 * time.Minute, true, []string{"opened denials warning"}},
		{"refusals after a day are told again", 0, refusals, 24 * time.Hour, false, []string{"opened denials warning", "opened denials warning"}},
		{"what again says is meant", 10 * time.Minute, refusals, 30 * time.Minute, false, []string{"opened denials warning", "opened denials warning"}},
		{"a brake whose end was told is told when it is pulled again", 0, brake, time.Minute, true,
			[]string{"opened brake warning", "resolved brake warning", "opened brake warning"}},
		{"and so it is a day later", 0, brake, 24 * time.Hour, false,
			[]string{"opened brake warning", "resolved brake warning", "opened brake warning"}},
	} {
		for _, restarts := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restarts %t", tt.name, restarts), func(t *testing.T) {
				w := newWorld(t, paper("all"))
				w.config.Again = tt.again
				w.watch()
				tt.is(w, true)
				w.look(t)
				first := w.only(t).ID
				tt.is(w, false)
				w.look(t)
				w.pass(tt.gone)
				if restarts {
					w.restart(t)
				}
				tt.is(w, true)
				w.look(t)
				w.look(t)
				sameEvents(t, w.events(t, "all"), tt.want)
				if got := w.only(t).ID == first; got != tt.same {
					t.Errorf("it is the same alert: %t, want %t", got, tt.same)
				}
			})
		}
	}
}

func TestOnlyEndsThatPeopleWaitForAreTold(t *testing.T) {
	w := newWorld(t, paper("all"))
	tomorrow := began.Add(12 * time.Hour)
	w.seen = Seen{
		Caps: []Cap{used("a", 100)}, Denials: []DenialBurst{refused("a", 40)},
		Brakes:  []BrakeOn{stopped("a"), {Scope: "books", Mode: "frozen", By: "keybrake", At: began}},
		Loops:   []Repeat{{Key: "a", Name: "agent-a", Operation: "refunds.create", Subject: "ch_1", Count: 10, Within: 10 * time.Minute}},
		Open:    OpenCalls{Count: 1, Oldest: began.Add(-time.Hour), USD: "20.00"},
		Due:     []Date{{Kind: Expiry, What: "vault key", Key: "a", Name: "agent-a", At: tomorrow}, {Kind: Rotation, What: "vault key", Key: "a", Name: "agent-a", At: tomorrow}},
		Trouble: "the disk is full", Damage: "record 7 does not follow record 6",
		Upstreams: []Traffic{{Name: "stripe", Calls: 10, Failed: 10, Within: 5 * time.Minute}},
	}
	w.look(t)
	if open, _ := w.alerts(t); len(open) != len(Kinds) {
		t.Fatalf("%d alerts are open, not one of each kind: %+v", len(open), open)
	}
	w.seen = Seen{}
	w.look(t)
	w.pass(calm)
	w.seen.Verified = w.now()
	w.look(t)
	var ends []Kind
	for _, a := range w.told(t, "all")[len(Kinds):] {
		if a.Event != "resolved" {
			t.Errorf("%s %s is told", a.Event, a.Kind)
		}
		ends = append(ends, a.Kind)
	}
	slices.Sort(ends)
	if want := []Kind{Brake, Frozen, Store, Unresolved, Upstream}; !slices.Equal(ends, want) {
		t.Errorf("ends are told of %v, want %v", ends, want)
	}
	if open, over := w.alerts(t); len(open) != 0 || len(over) != len(Kinds) {
		t.Errorf("%d alerts are open and %d over", len(open), len(over))
	}
}

func TestWhileItCannotSeeNothingIsOver(t *testing.T) {
	w := newWorld(t, paper("all"))
	w.seen.Denials, w.seen.Brakes = []DenialBurst{refused("a", 40)}, []BrakeOn{stopped("a")}
	w.look(t)
	w.seen.Denials, w.seen.Brakes, w.blind = nil, nil, errBlind
	w.look(t)
	w.look(t)
	if open, over := w.alerts(t); len(open) != 3 || len(over) != 0 {
		t.Fatalf("blind, it has %d alerts open and %d over", len(open), len(over))
	}
	w.blind = nil
	w.look(t)
	if open, over := w.alerts(t); len(open) != 0 || len(over) != 3 {
		t.Fatalf("it sees again and has %d alerts open and %d over", len(open), len(over))
	}
	sameEvents(t, w.events(t, "all"), []string{
		"opened denials warning", "opened brake warning", "opened store critical", "resolved brake warning", "resolved store critical",
	})
}

func TestARestartTellsNothingTwiceAndForgetsNothing(t *testing.T) {
	w := newWorld(t, paper("all"))
	w.seen.Brakes, w.seen.Caps = []BrakeOn{stopped("a")}, []Cap{used("a", 80)}
	w.look(t)
	before, _ := w.alerts(t)
	w.restart(t)
	w.look(t)
	if after, _ := w.alerts(t); len(after) != 2 || after[0].ID != before[0].ID || after[1].ID != before[1].ID {
		t.Fatalf("open were %+v, and after the restart %+v", before, after)
	}
	w.restart(t)
	w.seen.Brakes, w.seen.Caps = nil, []Cap{used("a", 100)} // while it was down
	w.look(t)
	sameEvents(t, w.events(t, "all"), []string{"opened cap warning", "opened brake warning", "worse cap critical", "resolved brake warning"})
}

// TestAStopAfterReadOnlyIsToldAnew: whoever was told that writes are stopped does not know that everything is.
func TestAStopAfterReadOnlyIsToldAnew(t *testing.T) {
	w := newWorld(t, paper("all"))
	readOnly, renamed := stopped("a"), stopped("a")
	readOnly.Mode, renamed.Name = "read-only", "agent-b"
	for _, brake := range []BrakeOn{readOnly, stopped("a"), renamed} {
		w.seen.Brakes = []BrakeOn{brake}
		w.look(t)
		w.look(t)
		if brake.Mode == "read-only" {
			w.ack(t, w.only(t).ID)
		}
	}
	sameEvents(t, w.events(t, "all"), []string{"opened brake warning", "worse brake warning"})
	if told := w.told(t, "all"); told[1].Title != "agent-a is stopped" || told[0].ID != told[1].ID {
		t.Errorf("told is %+v", told)
	}
	if r := w.only(t); r.AckedBy != "" {
		t.Errorf("it is worse and still acknowledged by %q", r.AckedBy)
	}
}

// TestADamagedRecordIsWrongUntilItIsCheckedWhole: a new process has only not met the place again.
func TestADamagedRecordIsWrongUntilItIsCheckedWhole(t *testing.T) {
	w := newWorld(t, paper("all"))
	w.seen.Damage = "record 7 does not follow record 6"
	w.look(t)
	w.seen.Damage = ""
	for range 3 {
		w.restart(t)
		w.pass(time.Hour)
		w.look(t)
	}
	w.only(t)
	w.seen.Verified = began // before it was seen
	w.look(t)
	w.only(t)
	w.seen.Verified = w.now()
	w.look(t)
	if open, over := w.alerts(t); len(open) != 0 || len(over) != 1 {
		t.Errorf("checked whole, and %d are open, %d over", len(open), len(over))
	}
}

func TestAVendorThatComesAndGoesIsToldOnce(t *testing.T) {
	w := newWorld(t, paper("all"))
	failing := []Traffic{{Name: "stripe", Calls: 10, Failed: 10, Within: 5 * time.Minute}}
	for range 20 {
		w.seen.Upstreams = failing
		w.look(t)
		w.seen.Upstreams = nil
		w.look(t)
		w.pass(calm - 3*every)
		w.look(t)
	}
	sameEvents(t, w.events(t, "all"), []string{"opened upstream critical"})
	w.pass(calm)
	w.look(t)
	sameEvents(t, w.events(t, "all"), []string{"opened upstream critical", "resolved upstream critical"})
}

// ack notes beside the watcher, as the API does, that somebody looks after an alert.
func (w *world) ack(t *testing.T, id string) {
	t.Helper()
	err := w.db.Update(t.Context(), store.LaneControl, func(tx store.Tx) error {
		rows, err := tx.Alerts(100)
		for _, r := range rows {
			if r.ID == id {
				r.Acked, r.AckedBy = tx.Now(), "dana"
				return tx.PutAlert(r)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhoLooksAfterAnAlertStaysKnownUntilItIsWorse(t *testing.T) {
	w := newWorld(t, paper("all"))
	w.seen.Caps = []Cap{used("a", 80)}
	w.look(t)
	w.ack(t, w.only(t).ID)
	w.pass(refreshed)
	w.look(t)
	if r := w.only(t); r.AckedBy != "dana" || r.Acked.IsZero() {
		t.Fatalf("after a refresh it is acknowledged by %q", r.AckedBy)
	}
	w.seen.Caps = []Cap{used("a", 100)}
	w.look(t)
	if r := w.only(t); r.AckedBy != "" || !r.Acked.IsZero() {
		t.Fatalf("it is worse and still acknowledged by %q", r.AckedBy)
	}
	w.ack(t, w.only(t).ID)
	w.seen.Caps = nil
	w.look(t)
	if _, over := w.alerts(t); over[0].AckedBy != "dana" {
		t.Fatal("once it is over nobody looked after it")
	}
	w.seen.Caps = []Cap{used("a", 100)}
	w.look(t)
	if r := w.only(t); r.AckedBy != "" {
		t.Fatalf("it came back and is still acknowledged by %q", r.AckedBy)
	}
}

func TestOneLookIsOneMessageAndAFloodIsPieces(t *testing.T) {
	for _, tt := range []struct {
		name string
		n    int
		want []int
	}{
		{"three alerts are one message", 3, []int{3}},
		{"as many as a receiver takes are one", maxBlocks, []int{maxBlocks}},
		{"a flood is pieces, and nothing is lost", 2*maxBlocks + 7, []int{7, maxBlocks, maxBlocks}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, paper("one"), paper("two"))
			for i := range tt.n {
				w.seen.Denials = append(w.seen.Denials, refused(fmt.Sprint("k", i), 30))
			}
			w.look(t)
			for _, target := range []string{"one", "two"} {
				var sizes []int
				ids := map[string]bool{}
				for _, m := range w.outbox(t, target) {
					alerts := decode(t, m.Body).Alerts
					sizes = append(sizes, len(alerts))
					for _, a := range alerts {
						ids[a.ID] = true
					}
				}
				slices.Sort(sizes)
				if !slices.Equal(sizes, tt.want) || len(ids) != tt.n {
					t.Errorf("%s gets pieces of %v with %d alerts", target, sizes, len(ids))
				}
			}
		})
	}
}

func TestATargetIsToldWhatItTakes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		target Target
		want   []string
	}{
		{"without a word: warnings and above", Target{}, []string{"opened cap warning", "opened denials warning", "opened brake critical"}},
		{"info is everything", Target{Least: Info}, []string{"opened cap info", "opened cap warning", "opened denials warning", "opened brake critical"}},
		{"critical is that alone", Target{Least: Critical}, []string{"opened brake critical"}},
		{"kinds that it names", Target{Only: []Kind{CapUsed, Brake}}, []string{"opened cap warning", "opened brake critical"}},
		{"kinds and a severity", Target{Only: []Kind{CapUsed}, Least: Critical}, []string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.target.Name, tt.target.Kind, tt.target.Command = "it", "command", []string{"true"}
			w := newWorld(t, tt.target)
			w.seen = Seen{
				Caps: []Cap{used("a", 50), used("b", 80)}, Denials: []DenialBurst{refused("a", 30)}, Brakes: []BrakeOn{{Scope: "all", Mode: "stopped", By: "dana", At: began}},
			}
			w.look(t)
			sameEvents(t, w.events(t, "it"), tt.want)
		})
	}
}

func TestTroubleOfTheStoreIsToldPastItOnceAnHour(t *testing.T) {
	r := newReceiver(t)
	arrived := make(chan struct{}, 10)
	r.then = func() { arrived <- struct{}{} }
	w := newWorld(t, hook(t, "hook", r.URL))
	w.seen.Denials = []DenialBurst{refused("a", 40)}
	w.look(t)
	if err := w.db.Close(); err != nil { // from here on it takes nothing
		t.Fatal(err)
	}
	fails := func() {
		t.Helper()
		w.pass(every)
		if err := w.Look(t.Context()); err == nil {
			t.Fatal("a store that is closed took alerts")
		}
	}
	w.seen.Denials = nil
	fails() // it was not seen yet that the store is in trouble, and this must not keep silent what comes
	w.seen.Trouble = "the disk is full"
	for range 5 {
		fails()
	}
	<-arrived
	w.pass(time.Hour)
	fails()
	<-arrived
	got := r.messages()
	if len(got) != 2 || got[0].id == got[1].id {
		t.Fatalf("within an hour and two looks it was told %d times", len(got))
	}
	for _, g := range got {
		if alerts := decode(t, g.body).Alerts; len(alerts) != 1 || alerts[0].Kind != Store || alerts[0].Severity != Critical {
			t.Errorf("told is %+v", alerts)
		}
	}
}
