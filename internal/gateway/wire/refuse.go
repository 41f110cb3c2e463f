package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
)

const (
	// answerWithin bounds the writing of a refusal to a client that does not read.
	answerWithin = 2 * time.Second
	// lingerFor and lingerBytes bound how long and how much is read and thrown away after a refusal. Closing a
	// socket with unread bytes resets it, and the client may lose the answer.
	lingerFor   = 500 * time.Millisecond
	lingerBytes = 1 << 20
)

// RefusedError is what reading a refused connection fails with, inside a *net.OpError: net/http takes that for
// a broken connection and does not answer a second time.
type RefusedError struct{ Why Reason }

// Answered says that the client has its answer and the refusal its record: whoever reads the body need do neither.
func (e RefusedError) Answered() bool { return true }

// Error names the reason.
func (e RefusedError) Error() string { return "request refused: " + string(e.Why) }

// refuse answers, ends our half of the connection and waits a little for the other. Later calls only fail.
func (c *conn) refuse() error {
	failure := &net.OpError{Op: "read", Net: "tcp", Addr: c.RemoteAddr(), Err: RefusedError{c.why}}
	if c.refused { // written by this function alone
		return failure
	}
	var record string
	if c.limits.OnRefused != nil {
		record = c.limits.OnRefused(c.RemoteAddr(), c.why)
	}
	reachable := true
	c.mu.Lock()
	c.refused = true
	if !c.begun || !c.answered {
		reachable = c.send(answer(c.why, record))
	}
	c.mu.Unlock()
	if reachable {
		c.linger()
	}
	return failure
}

// send writes the refusal and reports whether the client could be reached; one that left needs no answer.
func (c *conn) send(b []byte) bool {
	if err := c.SetWriteDeadline(time.Now().Add(answerWithin)); err != nil {
		return false
	}
	_, err := c.Conn.Write(b)
	return err == nil
}

// linger reads what the client still sends, until it hangs up or a bound is reached. How it ends is all the
// same: the server closes the connection next.
func (c *conn) linger() {
	if c.CloseWrite() != nil || c.SetReadDeadline(time.Now().Add(lingerFor)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes) // nothing depends on what was thrown away
}

// answer is the whole HTTP answer to a refused request, in Stripe's shape of an error.
func answer(why Reason, record string) []byte {
	machine := map[string]any{"code": policy.CodeMalformed, "rule": "wire", "reason": why}
	if record != "" {
		machine["audit_id"] = record
	}
	body, err := json.Marshal(map[string]any{"error": map[string]any{
		"type": "invalid_request_error", "code": policy.CodeMalformed, "message": messages[why], "keybrake": machine,
	}})
	if err != nil {
		panic(fmt.Sprintf("wire: a map of strings did not encode: %v", err))
	}
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n" +
		"Stripe-Should-Retry: false\r\nCache-Control: no-store\r\nConnection: close\r\n")
	if isToken(record) {
		fmt.Fprintf(&b, "Request-Id: %s\r\nKeybrake-Audit-Id: %s\r\n", record, record)
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", len(body))
	b.Write(body)
	return b.Bytes()
}

// isToken says that s can stand in a header without harm.
func isToken(s string) bool {
	for i := range len(s) {
		if lower[s[i]] == 0 {
			return false
		}
	}
	return s != ""
}

// isContinue says that p is the interim answer that asks for the body; the real answer follows.
func isContinue(p []byte) bool { return bytes.HasPrefix(p, []byte("HTTP/1.1 100 ")) }
