package crash

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
)

// node is a gateway among others on one PostgreSQL, on a host of its own.
type node struct {
	w      *world
	name   string
	host   postgrestest.Host
	stores [2]way       // to the two servers
	agents way          // from agents to it
	url    atomic.Value // string: of the agents' port
	ops    *admin.Client
	away   atomic.Bool // a load balancer sends it nothing

	*process
}

// newCluster starts a sandbox, a pair of servers and so many gateways.
func newCluster(t testing.TB, gateways int, flags ...string) *world {
	t.Helper()
	w := emptyWorld(t, t.TempDir())
	w.flags = flags
	w.sandbox()
	net := newNetwork(t)
	w.pair = newPair(t, net)
	for n := range gateways {
		node := &node{w: w, name: string(rune('a' + n))}
		node.host = net.host(node.name)
		node.agents = net.way(outside, node.name)
		for place, name := range places {
			node.stores[place] = net.way(node.name, name)
			w.pair.join(place, node.stores[place])
		}
		node.start()
		w.nodes = append(w.nodes, node)
	}
	w.ops = w.nodes[0].ops
	w.addUpstream("http://" + hostPort(net.outward(portOf(t, w.box))))
	return w
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// portOf is the port in a URL.
func portOf(t testing.TB, text string) int {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// start starts the node's gateway and waits until it serves. One that finds no store in time ends, and is started again as a
// supervisor does.
func (n *node) start() {
	n.w.t.Helper()
	data := filepath.Join(n.w.dir, n.name)
	if err := os.MkdirAll(data, 0o700); err != nil {
		n.w.t.Fatal(err)
	}
	for range 10 {
		if n.serve(data) {
			return
		}
	}
	n.w.t.Fatalf("node %s ended:\n%s", n.name, &n.out)
}

// serve starts a gateway and reports whether it serves in the end.
func (n *node) serve(data string) bool {
	n.w.t.Helper()
	ready := filepath.Join(n.w.dir, n.name+".ready.json")
	n.process = n.w.serve(n.host, nil, ready,
		"--store", fmt.Sprintf("postgres://keybrake@%s,%s/%s?sslmode=disable", hostPort(n.stores[0].address()), hostPort(n.stores[1].address()), database),
		"--node", n.name, "--data", data, "--master-key-file", filepath.Join(n.w.dir, "master.key"), "--audit-archive", n.w.archive(), "--log-calls=false")
	at, ok := n.awaitServing(ready, nil)
	if !ok {
		n.sane()
		return false
	}
	n.agents.lead(portOf(n.w.t, at.agents))
	n.url.Store("http://" + hostPort(n.agents.address()))
	n.ops = at.ops
	return true
}

// store does something to the node's ways to the store.
func (n *node) store(do func(way)) {
	for _, w := range n.stores {
		do(w)
	}
}

// signal sends the node's process a signal; it may be dead.
func (n *node) signal(sig syscall.Signal) { _ = n.cmd.Process.Signal(sig) }

// awaitTaken waits until the node has put what is in its KILL file into the store.
func (n *node) awaitTaken() {
	path := admin.KillFilePath(filepath.Join(n.w.dir, n.name, "keybrake"))
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		_, left := os.Stat(path)
		_, taking := os.Stat(path + ".applying")
		if left != nil && taking != nil {
			return
		}
	}
	n.w.t.Errorf("node %s does not take its KILL file", n.name)
}

// ready reports whether the node takes calls.
func (n *node) ready() bool {
	resp, err := http.Get(n.url.Load().(string) + "/readyz")
	if err != nil {
		return false
	}
	_ = resp.Body.Close() // only the status matters
	return resp.StatusCode == http.StatusOK
}

// balance is what a load balancer does until its end is called: it asks each node whether it is ready.
func (w *world) balance() (end func()) {
	done := make(chan struct{})
	var asking sync.WaitGroup
	for _, n := range w.nodes {
		asking.Go(func() {
			for {
				n.away.Store(!n.ready())
				select {
				case <-done:
					n.away.Store(false)
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
	return func() { close(done); asking.Wait() }
}

// awaitNodes waits until every node takes calls.
func (w *world) awaitNodes() {
	w.t.Helper()
	for _, n := range w.nodes {
		for until := time.Now().Add(30 * time.Second); !n.ready(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(until) {
				w.t.Fatalf("node %s does not take calls:\n%s", n.name, &n.out)
			}
		}
	}
}
