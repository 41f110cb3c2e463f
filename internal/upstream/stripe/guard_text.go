package stripe

import (
	"bytes"
	"slices"
	"strings"

	"github.com/keybrake/keybrake/internal/upstream"
)

// withheldText stands where a secret was inside a longer text.
const withheldText = "[withheld]"

// messageWithheld replaces an error text that names what the agent must not see.
const messageWithheld = "Stripe refused the request. Its message is withheld, because it names objects outside this key's customers."

// secretMarks are what every secret that can occur in a text has in it. One look for each tells whether the
// texts of an answer have to be looked at one by one.
var secretMarks = [...][]byte{[]byte("_secret_"), []byte("k_live_"), []byte("k_test_"), []byte("k_org_"), []byte("whsec_")}

func suspicious(b []byte) bool {
	for _, m := range secretMarks {
		if bytes.Contains(b, m) {
			return true
		}
	}
	return false
}

// mayHoldSecret reports whether a body can have anything in it that the guard takes out, by the words that
// it would have to contain. It is several times cheaper than reading the body, and most reads end here. A
// body with \u escapes may spell the words otherwise.
func mayHoldSecret(b []byte, suspicious bool) bool {
	has := func(word string) bool { return bytes.Contains(b, []byte(word)) }
	return suspicious || has("secret") || has(`"cvc"`) || has(`"number"`) && has(`"exp_`) || has(`\u`)
}

// keyPrefixes begin the keys of a Stripe account: secret, restricted, organisation. Stripe's own errors show
// them masked ("rk_live_****abcd"), which still tells which key it is.
var keyPrefixes = [...]string{"sk_live_", "sk_test_", "sk_org_", "rk_live_", "rk_test_", "rk_org_"}

// issuedPrefixes begin what operations hand out: ephemeral keys and webhook signing secrets.
var issuedPrefixes = [...]string{"ek_live_", "ek_test_", "whsec_"}

// secrets says which of them may pass. The zero value lets none.
type secrets struct {
	client bool // client_secret and what is made from it
	issued bool // what the call itself hands out
}

// minSecret is how long the part after "_secret_" is at least in a real client secret.
const minSecret = 10

// wordByte marks what keys, ids and masks are made of.
var wordByte = func() (t [256]bool) {
	for c := range t {
		t[c] = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '*'
	}
	return t
}()

// secretWord reports whether a run of word bytes is a secret that may not pass.
func secretWord(w []byte, pass secrets) bool {
	begins := func(p string) bool { return bytes.HasPrefix(w, []byte(p)) }
	if slices.ContainsFunc(keyPrefixes[:], begins) || !pass.issued && slices.ContainsFunc(issuedPrefixes[:], begins) {
		return true
	}
	if pass.client {
		return false
	}
	i := bytes.Index(w, []byte("_secret_"))
	return i > 0 && len(w)-i-len("_secret_") >= minSecret
}

// secretWords calls found with every secret in a text that may not pass, in order.
func secretWords(s []byte, pass secrets, found func(span)) {
	for i := 0; i < len(s); {
		if !wordByte[s[i]] {
			i++
			continue
		}
		start := i
		for i < len(s) && wordByte[s[i]] {
			i++
		}
		if secretWord(s[start:i], pass) {
			found(span{start, i})
		}
	}
}

// cleanText takes keys and client secrets out of one text: out of URLs (next_action) and messages. A text
// with escapes is replaced whole, since its bytes are not what it means.
func (g *guard) cleanText(s span, escaped bool) {
	if escaped {
		var buf [256]byte
		hit := false
		secretWords(unescape(s.of(g.b), true, buf[:]), g.pass, func(span) { hit = true })
		if hit {
			g.edits = append(g.edits, edit{s, withheldText})
			g.withheld++
		}
		return
	}
	secretWords(s.of(g.b), g.pass, func(w span) {
		g.edits = append(g.edits, edit{span{s.start + w.start, s.start + w.end}, withheldText})
		g.withheld++
	})
}

// cleanAll takes the secrets that may not pass out of a body that is not JSON.
func cleanAll(b []byte, pass secrets) (body []byte, withheld int) {
	if !suspicious(b) {
		return b, 0
	}
	g := guard{jsonReader: jsonReader{b: b}, pass: pass}
	g.cleanText(span{0, len(b)}, false)
	return g.edited(), g.withheld
}

// edited returns the answer with the edits made; the very same bytes if there are none.
func (g *guard) edited() []byte {
	if len(g.edits) == 0 {
		return g.b
	}
	if g.unsorted {
		slices.SortFunc(g.edits, func(x, y edit) int { return x.start - y.start })
	}
	out := make([]byte, 0, len(g.b))
	at := 0
	for _, e := range g.edits {
		out = append(append(out, g.b[at:e.start]...), e.with...)
		at = e.end
	}
	return append(out, g.b[at:]...)
}

// bareFields are what is left of an executed write's answer that may not be shown.
var bareFields = [...]string{"id", "object", "status", "amount", "currency"}

// bareFacts cuts an answer down to bareFields, as far as they are plain values.
func bareFacts(body []byte) []byte {
	out := []byte{'{'}
	for _, name := range bareFields {
		k, raw := findJSON(body, Field{name})
		if k == 0 || k == jsonObject || k == jsonArray {
			continue
		}
		if len(out) > 1 {
			out = append(out, ", "...)
		}
		out = append(append(append(out, '"'), name...), `": `...)
		out = append(out, raw...)
	}
	return append(out, '}')
}

// bareError keeps what SDKs branch on and drops what could name somebody.
func bareError(answer *upstream.Answer) []byte {
	e := errorObject{
		Type:        closedWord(findText(answer.Body, Field{"error", "type"})),
		Code:        closedWord(findText(answer.Body, Field{"error", "code"})),
		DeclineCode: closedWord(findText(answer.Body, Field{"error", "decline_code"})),
		Message:     messageWithheld,
	}
	if e.Type == "" {
		e.Type = string(typeInvalidRequest)
		if answer.Status >= 500 {
			e.Type = string(typeAPI)
		}
	}
	return encodeError(e)
}

// maxClosedWord bounds a word of one of Stripe's closed lists.
const maxClosedWord = 64

// closedWord returns s if it is a word as Stripe's codes are, letters and underscores, so that an id cannot
// pass in its place.
func closedWord(s string) string {
	if len(s) > maxClosedWord || strings.ContainsFunc(s, func(c rune) bool { return c != '_' && (c < 'a' || c > 'z') }) {
		return ""
	}
	return s
}

// namesUnsent reports whether the texts of an error name an object that the agent did not name itself. An
// agent under a customer list must not learn ids from errors.
func namesUnsent(call *upstream.Call, body []byte) bool {
	_, raw := findJSON(body, Field{"error", "message"})
	for i := 0; i < len(raw); {
		if !wordByte[raw[i]] {
			i++
			continue
		}
		start := i
		for i < len(raw) && wordByte[raw[i]] {
			i++
		}
		if w := raw[start:i]; looksLikeID(w) && !sent(call, w) {
			return true
		}
	}
	return false
}

// looksLikeID reports whether a word is an object's id: a lower-case prefix, an underscore and letters with
// at least one digit or capital, which words of prose and parameter names have not.
func looksLikeID(w []byte) bool {
	i := bytes.LastIndexByte(w, '_')
	if i < 2 || len(w)-i < 2 {
		return false
	}
	return bytes.ContainsFunc(w[i+1:], func(c rune) bool { return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' })
}

// sent reports whether the agent's own call has the word in it. Ids are made of bytes that no encoding
// changes.
func sent(call *upstream.Call, w []byte) bool {
	return strings.Contains(call.Path, string(w)) || strings.Contains(call.Query, string(w)) || bytes.Contains(call.Body, w) ||
		string(call.Account) == string(w)
}
