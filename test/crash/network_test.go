package crash

import (
	"os"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
)

// networkVariable chooses what a cluster's processes reach each other through: netns or lines. Without it that is namespaces
// where the machine allows them.
const networkVariable = "KEYBRAKE_CLUSTER_NET"

// network is what the processes of a cluster reach each other through.
type network interface {
	// host adds a host, by a name of its own. The test itself is on the one called outside, and reaches all of them.
	host(name string) postgrestest.Host
	// way is the way from one host to a server on another, which must be led to its port.
	way(from, to string) way
	// outward is the host and port at which every host finds a port of the test's own loopback interface.
	outward(port int) (string, int)
}

// outside is where agents, operators, the auditor and Stripe are.
const outside = "outside"

// way is the network between a client and a server that a test can break. What is sent while it gets lost arrives later, if
// either end keeps sending it for long enough.
type way interface {
	// address is where the client finds the server.
	address() (host string, port int)
	// lead says at which port of its host the server listens now; what is connected stays where it is.
	lead(port int)
	// lose lets all that is sent there, or back, get lost, for all that either end can see.
	lose(there, back bool)
	// slow lets what is sent take up to so long; in a network of packets every tenth gets lost as well. 0 is the usual way.
	slow(most time.Duration)
	// cut breaks all connections that there are.
	cut()
}

func hole(w way)  { w.lose(true, true) }
func mute(w way)  { w.lose(false, true) }
func cut(w way)   { w.cut() }
func spoil(w way) { w.slow(100 * time.Millisecond) }
func heal(w way) {
	w.lose(false, false)
	w.slow(0)
}

// newNetwork makes the network of a cluster and says of what kind it is.
func newNetwork(t testing.TB) network {
	t.Helper()
	want := os.Getenv(networkVariable)
	if want != "lines" {
		n, err := newNamespaces(t)
		if err == nil {
			t.Log("the network: namespaces, " + n.String())
			return n
		}
		if want == "netns" {
			t.Fatalf("%s=%s: %v", networkVariable, want, err)
		}
		t.Logf("no network namespaces: %v", err)
	}
	t.Log("the network: lines on the loopback interface")
	return lines{t}
}

// lines are a network of processes on one machine: every way is a line.
type lines struct{ t testing.TB }

const loopback = "127.0.0.1"

func (lines) host(string) postgrestest.Host  { return postgrestest.Host{Address: loopback} }
func (l lines) way(string, string) way       { return newLine(l.t, loopback, 0) }
func (lines) outward(port int) (string, int) { return loopback, port }
