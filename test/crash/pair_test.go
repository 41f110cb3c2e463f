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
	hosts   [2]postgrestest.Host
	servers [2]*postgrestest.Server
	// followed are the ways on which the other server follows each of them, and ways those on which nodes reach them as well.
	followed [2]way
	ways     [2][]way
	primary  int
}

// places are the hosts of the two servers.
var places = [2]string{"store-0", "store-1"}

// database is where the books are.
const database = "keybrake"

func newPair(t testing.TB, net network) *pair {
	t.Helper()
	p := &pair{t: t}
	for place, name := range places {
		p.hosts[place] = net.host(name)
	}
	for place, name := range places {
		p.followed[place] = net.way(places[1-place], name)
		p.ways[place] = []way{p.followed[place]}
	}
	first := postgrestest.StartOn(t, p.hosts[0])
	first.Exec(t, "CREATE DATABASE "+database)
	p.settle(0, first)
	first.Synchronous(t) // before it is copied: whoever takes over must wait for a standby, too
	p.follow()
	first.Followed(t)
	return p
}

// settle has a server in a place: whatever leads there leads to it.
func (p *pair) settle(place int, server *postgrestest.Server) {
	p.servers[place] = server
	for _, w := range p.ways[place] {
		w.lead(server.Port)
	}
}

// join adds the way of a node to a place.
func (p *pair) join(place int, w way) {
	w.lead(p.servers[place].Port)
	p.ways[place] = append(p.ways[place], w)
}

func (p *pair) leader() *postgrestest.Server { return p.servers[p.primary] }

// url is the connection string of the primary, as the test itself reaches it.
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
	address, port := p.followed[p.primary].address()
	p.settle(place, p.leader().StandbyOn(p.t, p.hosts[place], address, port))
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

// vanish is failOver where the primary's machine is gone with it: nobody is told that its connections have ended, and who
// asks for a new one is not answered. afterwards comes when the other server has a standby again, and no node sees that.
func (p *pair) vanish(meanwhile, afterwards func()) {
	p.t.Helper()
	gone := p.ways[p.primary]
	for _, w := range gone {
		hole(w)
	}
	p.leader().Kill()
	p.servers[1-p.primary].Promote(p.t)
	meanwhile()
	heal(p.followed[p.primary])
	p.promote()
	afterwards()
	for _, w := range gone {
		heal(w)
	}
}

// split promotes the standby while the primary lives and cannot know it; later it is ended, and a new standby takes its place.
func (p *pair) split(meanwhile func()) {
	p.t.Helper()
	way := p.followed[p.primary]
	hole(way)
	p.servers[1-p.primary].Promote(p.t)
	meanwhile()
	p.leader().Kill()
	way.cut()
	heal(way)
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
