package sdk

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// ask is one call as an agent's code makes it, in words that every SDK has.
type ask struct {
	URL string `json:"url"`
	Key string `json:"key"`
	// Op is an operation (refunds.create), for which the SDK's own method of that name is called, or a method and
	// a path (POST /v1/refunds) for the SDK's way to send requests that it has no method for.
	Op             string            `json:"op"`
	ID             string            `json:"id,omitempty"`
	Params         map[string]string `json:"params,omitempty"` // as on the wire: transfer_data[destination]
	IdempotencyKey string            `json:"idempotency_key,omitempty"`
	Account        string            `json:"account,omitempty"`
	Version        string            `json:"version,omitempty"`
	Headers        map[string]string `json:"headers,omitempty"` // more of them, for requests without a method only
}

// raised is the error that an SDK raised, with everything that it tells.
type raised struct {
	Class     string // of the error, without its package
	Type      string
	Code      string
	Message   string
	Param     string
	Status    int
	RequestID string            `json:"request_id"`
	Headers   map[string]string // of the answer, in lower case; nil where the SDK does not show them
}

// sdk is one of Stripe's, unmodified.
type sdk struct {
	name string // as docs/api.md heads its column
	what string // has to be there
	has  func() bool
	// start makes the SDK ready for calls. It returns nil for a call without an error.
	start func(t *testing.T) func(ask) *raised
}

var sdks = []sdk{
	{"stripe-go", "stripe-go", func() bool { return true }, startGo},
	{"stripe-node", "the stripe package for Node", hasNodeStripe, func(t *testing.T) func(ask) *raised {
		return startLines(t, "node", filepath.Join("..", "node", "agent.js"))
	}},
	{"stripe-python", "Debian's python3-stripe", hasPythonStripe, func(t *testing.T) func(ask) *raised {
		return startLines(t, "/usr/bin/python3", filepath.Join("..", "python", "agent.py"))
	}},
}

// startLines starts an agent of another language: a call goes in as a line, what became of it comes back as one.
func startLines(t *testing.T, name string, args ...string) func(ask) *raised {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // it ends by itself then, or has ended
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
	lines := json.NewDecoder(bufio.NewReader(out))
	return func(a ask) *raised {
		if err := json.NewEncoder(in).Encode(a); err != nil {
			t.Fatalf("%s has ended: %v", name, err)
		}
		var answer struct{ Raised *raised }
		if err := lines.Decode(&answer); err != nil {
			t.Fatalf("%s has ended: %v", name, err)
		}
		return answer.Raised
	}
}
