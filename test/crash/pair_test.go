package crash

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
)

// pair is a PostgreSQL and a standby that every commit waits for. It does what an operator's fail-over tool does, and what
// one that judges wrongly does.
type pair struct {
	t       testing.TB
	servers [2]*postgrestest.Server
	// followed are the lines through which the other server follows each of them.
	followed [2]*line
	primary  int
	// moved is told where a server listens that has taken another's place.
	moved func(place, port int)
}

// database is where the books are.
const database = "keybrake"

func newPair(t testing.TB) *pair {
	t.Helper()
	first := postgrestest.Start(t)
	first.Exec(t, "CREATE DATABASE "+database)
	p := &pair{t: t, moved: func(int, int) {}}
	p.servers[0], p.followed[0], p.followed[1] = first, newLine(t, first.Port), newLine(t, 0)
	first.Synchronous(t) // before it is copied: whoever takes over must wait for a standby, too
	p.follow()
	first.Followed(t)
	return p
}

func (p *pair) leader() *postgrestest.Server { return p.servers[p.primary] }

// url is the connection string of the primary, past all lines.
func (p *pair) url() string { return p.leader().URL(database) }

// crowdOut takes every connection that the primary has left, until its end is called.
func (p *pair) crowdOut() (end func()) {
	ctx := context.Background()
	var taken []*pgx.Conn
	for {
		conn, err := pgx.Connect(ctx, p.url())
		if err != nil {
			break // there are none left
		}
		taken = append(taken, conn)
	}
	return func() {
		for _, c := range taken {
			_ = c.Close(ctx) // the server may have ended
		}
	}
}

// follow makes a new standby in the place that has none.
func (p *pair) follow() {
	p.t.Helper()
	place := 1 - p.primary
	p.servers[place] = p.leader().Standby(p.t, p.followed[p.primary].port())
	p.followed[place].lead(p.servers[place].Port)
	p.moved(place, p.servers[place].Port)
}

// restart crashes the primary and starts it again.
func (p *pair) restart() {
	p.t.Helper()
	p.leader().Kill()
	p.leader().Restart(p.t)
	p.leader().Followed(p.t)
}

// failOver promotes the standby, with the primary dead; a new standby takes the dead one's place.
func (p *pair) failOver() {
	p.t.Helper()
	p.leader().Kill()
	p.promote()
}

// split promotes the standby while the primary lives and cannot know it; later it is ended, and a new standby takes its place.
func (p *pair) split(meanwhile func()) {
	p.t.Helper()
	line := p.followed[p.primary]
	line.hole()
	p.servers[1-p.primary].Promote(p.t)
	meanwhile()
	p.leader().Kill()
	line.cut()
	line.heal()
	p.promote()
}

// promote makes the standby the primary, if it is not that already, and gives it a standby.
func (p *pair) promote() {
	p.t.Helper()
	dead := p.leader()
	p.primary = 1 - p.primary
	if p.leader().Standing(p.t) {
		p.leader().Promote(p.t)
	}
	dead.End()
	p.follow()
	p.leader().Followed(p.t)
}
