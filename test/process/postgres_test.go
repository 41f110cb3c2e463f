package process

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
)

// node starts a gateway on a database, as a machine of its own.
func (h *home) node(database, name string, flags ...string) *server {
	h.t.Helper()
	return h.serve(append([]string{"--store", database, "--node", name}, flags...)...)
}

func TestAStoreOnPostgreSQLIsServedAsOneInAFile(t *testing.T) {
	database := postgrestest.Start(t).URL("postgres")
	h := newHome(t)
	s := h.node(database, "one")
	s.waitFor(regexp.MustCompile(`level=WARN msg="store on PostgreSQL: it can forget" node=one safety="no synchronous standby`))
	key := h.ready()
	charge := h.seeded()[0].Charges[1]
	refund := func(on *server, cents string) answer {
		t.Helper()
		return call(t, http.DefaultClient, key, "POST", on.Gateway+"/v1/refunds", "charge="+charge+"&amount="+cents)
	}
	if r := refund(s, "3000"); r.Status != 200 {
		t.Fatal(r)
	}
	h.must(nil, "kill", "agent-support-refunds-p1")
	if r := refund(s, "100"); !killed(r) {
		t.Errorf("after kill: %+v", r)
	}
	h.must(nil, "resume", "agent-support-refunds-p1", "--reason", "tried")
	if r := refund(s, "1000"); r.Status != 200 {
		t.Errorf("after resume: %+v", r)
	}
	if r := h.run("backup", "copy.db"); r.Exit == 0 || !strings.Contains(r.Err, "PostgreSQL's own means") {
		t.Errorf("a backup: exit %d %s", r.Exit, r.Err)
	}
	if r := h.run("doctor", "--store", database); !strings.Contains(r.Out, "no synchronous standby") {
		t.Errorf("the doctor: %s%s", r.Out, r.Err)
	}
	h.must(nil, "audit", "verify")
	if err := s.end(); err != nil {
		t.Fatalf("%v\n%s", err, s.out)
	}

	// Another machine without the master key can open nothing, and makes none.
	other := &home{t: t, dir: t.TempDir(), Sandbox: h.Sandbox}
	master := filepath.Join(h.dir, "keybrake.key")
	if r := other.run("serve", "--store", database, "--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"); r.Exit != 1 || !strings.Contains(r.Err, "--master-key-file") {
		t.Errorf("without the master key: exit %d %s", r.Exit, r.Err)
	}
	if _, err := os.Stat(filepath.Join(other.dir, "keybrake.key")); err == nil {
		t.Error("it made another master key")
	}

	// After a restart, and on two machines at once, there is one cap, one stop and one record.
	s = h.node(database, "one")
	second := h.newKey("agent-support-refunds-p2")
	two := other.node(database, "two", "--master-key-file", master)
	if r := refund(s, "3000"); r.Status != 200 {
		t.Errorf("after a restart: %+v", r)
	}
	if r := refund(two, "3000"); r.Status != 200 {
		t.Errorf("on another node: %+v", r)
	}
	if r := refund(two, "100"); r.Code != "keybrake_cap_exceeded" {
		t.Errorf("above the cap that both share: %+v", r)
	}
	var spend struct {
		Keys []struct {
			Caps []struct{ Held, Settled, Left string }
		}
	}
	for _, at := range []*home{h, other} {
		for at.must(&spend, "spend", "-o", "json"); spend.Keys[0].Caps[0].Left != "0.00"; at.must(&spend, "spend", "-o", "json") {
			time.Sleep(10 * time.Millisecond) // what the other node did is told a moment later
		}
		if c := spend.Keys[0].Caps[0]; c.Settled != "100.00" {
			t.Errorf("spend: %+v", spend)
		}
	}
	h.must(nil, "kill", "--all")
	if r := call(t, http.DefaultClient, second, "POST", two.Gateway+"/v1/refunds", "charge="+charge+"&amount=100"); !killed(r) {
		t.Errorf("stopped through the other node: %+v", r)
	}
	other.must(nil, "audit", "verify")
	if err := two.end(); err != nil {
		t.Errorf("%v\n%s", err, two.out)
	}
	if err := s.end(); err != nil {
		t.Errorf("%v\n%s", err, s.out)
	}
}

func TestAPostgreSQLThatDoesNotFlushIsServedOnlyIfThatIsSaid(t *testing.T) {
	database := postgrestest.Start(t, "fsync=off").URL("postgres")
	h := newHome(t)
	if r := h.run("serve", "--store", database, "--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"); r.Exit != 1 || !strings.Contains(r.Err, "fsync is off") || !strings.Contains(r.Err, "--store-unsafe") {
		t.Errorf("exit %d: %s", r.Exit, r.Err)
	}
	if r := h.run("doctor", "--store", database); r.Exit != 1 || !strings.Contains(r.Out, "fsync is off") {
		t.Errorf("the doctor: exit %d %s", r.Exit, r.Out)
	}
	for range 2 { // at every start
		s := h.node(database, "one", "--store-unsafe")
		s.waitFor(regexp.MustCompile(`level=WARN msg="store on PostgreSQL: it can forget" node=one safety="fsync or full_page_writes is off`))
		if err := s.end(); err != nil {
			t.Errorf("%v\n%s", err, s.out)
		}
	}
}
