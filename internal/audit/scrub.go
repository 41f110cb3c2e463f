package audit

import "strings"

// What stands in place of what was taken out.
const (
	scrubbedSecret = "[secret]"
	scrubbedCard   = "[card]"
)

// secretPrefixes begin the credentials that are known to pass by; what follows is taken out with them if
// it is at least minSecret long. Documentation that says "sk_live_..." stays readable.
var secretPrefixes = []string{
	"vault_key_test_", "vault_key_live_", "keybrake_admin_", "keybrake_sess_", "keybrake_link_",
	"sk_test_", "sk_live_", "rk_test_", "rk_live_", "whsec_", "ek_test_", "ek_live_", "sk_org_",
	"_secret_", // in the middle of what unlocks a PaymentIntent in a browser: pi_..._secret_...
}

// minSecret is how many characters after a prefix make a credential. Stripe's have 24 and more.
const minSecret = 8

// Card numbers have 13 to 19 digits (ISO/IEC 7812), may be written in groups, and end in a Luhn digit.
const minCard, maxCard = 13, 19

// Scrub takes vault keys, operators' tokens, sessions and links, Stripe secrets, client secrets and card numbers out of a text. Texts without any
// come back as they are, without an allocation. It errs on the side of taking out: a long number that
// happens to pass for a card's goes too.
func Scrub(s string) string {
	_, suspect := glance(s)
	if !suspect {
		return s
	}
	return scrubCards(scrubSecrets(s))
}

// glance looks at a text once, because it is done to every text of every call. plain: printable ASCII that
// JSON takes as it is. suspect: it has what secrets and card numbers cannot do without.
func glance(s string) (plain, suspect bool) {
	plain = true
	digits := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '_':
			suspect = true
		case c >= '0' && c <= '9':
			digits++
		case c < ' ' || c > '~' || c == '"' || c == '\\':
			plain = false
		}
	}
	return plain, suspect || digits >= minCard
}

func scrubSecrets(s string) string {
	var out strings.Builder
	kept := 0 // s[:kept] is in out
	for i := 0; i < len(s); i++ {
		if s[i] != '_' { // every form has one: only around underscores is there anything to find
			continue
		}
		start, end := secretAround(s, i, kept)
		if end == 0 {
			continue
		}
		out.WriteString(s[kept:start])
		out.WriteString(scrubbedSecret)
		kept, i = end, end-1
	}
	if kept == 0 {
		return s
	}
	out.WriteString(s[kept:])
	return out.String()
}

// secretAround finds a secret whose form has its first underscore at i and that does not begin before from.
// end is 0 if there is none. Letter case is ignored: a secret that somebody lower-cased is still most of
// one.
func secretAround(s string, i, from int) (start, end int) {
	for _, p := range secretPrefixes {
		start = i - strings.IndexByte(p, '_')
		if start < from || len(s)-start <= len(p) || !strings.EqualFold(s[start:start+len(p)], p) {
			continue
		}
		if end = wordEnd(s, start+len(p)); end-start-len(p) >= minSecret {
			return start, end
		}
	}
	return 0, 0
}

func wordEnd(s string, i int) int {
	for i < len(s) && (isDigit(s[i]) || s[i]|0x20 >= 'a' && s[i]|0x20 <= 'z' || s[i] == '_') {
		i++
	}
	return i
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// scrubCards takes out every run of digits (single spaces and dashes between them allowed) that has a card
// number anywhere inside. The whole run goes, so that no part of the number is left at its ends.
func scrubCards(s string) string {
	var out strings.Builder
	kept := 0
	digits := make([]byte, 0, 2*maxCard)
	for i := 0; i < len(s); {
		if !isDigit(s[i]) {
			i++
			continue
		}
		digits = digits[:0]
		end := i
		for j := i; j < len(s); j++ {
			if isDigit(s[j]) {
				digits, end = append(digits, s[j]), j+1
			} else if (s[j] != ' ' && s[j] != '-') || j > end { // two separators in a row end the run
				break
			}
		}
		if hasCard(digits) {
			out.WriteString(s[kept:i])
			out.WriteString(scrubbedCard)
			kept = end
		}
		i = end
	}
	if kept == 0 {
		return s
	}
	out.WriteString(s[kept:])
	return out.String()
}

// hasCard reports whether a card number stands anywhere in a run of digits. Networks' numbers begin with 2
// to 6.
func hasCard(d []byte) bool {
	for from := 0; from+minCard <= len(d); from++ {
		if d[from] < '2' || d[from] > '6' {
			continue
		}
		for n := minCard; n <= maxCard && from+n <= len(d); n++ {
			if luhn(d[from : from+n]) {
				return true
			}
		}
	}
	return false
}

func luhn(d []byte) bool {
	sum := 0
	for i := range d {
		n := int(d[len(d)-1-i] - '0')
		if i%2 == 1 {
			if n *= 2; n > 9 {
				n -= 9
			}
		}
		sum += n
	}
	return sum%10 == 0
}
