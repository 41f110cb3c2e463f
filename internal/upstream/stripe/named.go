package stripe

import (
	"slices"

	"github.com/keybrake/keybrake/internal/policy"
)

// maxNamed is how many customers are read of one answer: more than a page of a list has, and no record keeps more.
const maxNamed = 64

// named returns the customers that an answer names, and whether the answer is JSON as validJSON has it. It goes by
// the fields that the guard judges (guard_fields.go); inside metadata names are the users' own.
func named(b []byte) (customers []policy.CustomerID, valid bool) {
	n := namer{jsonReader: jsonReader{b: b}}
	if _, ok := n.value(0, memberOther, false); !ok {
		return nil, false
	}
	n.space()
	if n.i != len(b) {
		return nil, false
	}
	return n.customers, true
}

// namer is the state of one pass over an answer.
type namer struct {
	jsonReader
	customers []policy.CustomerID
}

// value reads one value and returns the text in it; the span is empty for anything but a string. class is that of
// the member that has it; free is true inside metadata.
func (n *namer) value(depth int, class memberClass, free bool) (text span, ok bool) {
	k := n.kind()
	switch k {
	case 0:
		return span{}, false
	case jsonString:
		text, _, ok = n.text()
		if ok && class.identity() && !free {
			n.add(text)
		}
		return text, ok
	case jsonObject:
		return span{}, depth < maxAnswerDepth && n.object(depth+1, class, free)
	case jsonArray:
		return span{}, depth < maxAnswerDepth && n.array(depth+1, class, free)
	default:
		_, ok = n.scalar(k)
		return span{}, ok
	}
}

func (n *namer) array(depth int, class memberClass, free bool) bool {
	n.i++
	for first := true; ; first = false {
		more, ok := n.next(']', first)
		if !ok || !more {
			return ok
		}
		if _, ok := n.value(depth, class, free); !ok {
			return false
		}
	}
}

// object reads a hash. It is a customer if it says so or stands where one is named; members come in any order.
func (n *namer) object(depth int, class memberClass, free bool) bool {
	var id span
	customer := class.identity()
	n.i++
	for first := true; ; first = false {
		more, ok := n.next('}', first)
		if !ok {
			return false
		}
		if !more {
			break
		}
		name, escaped, ok := n.key()
		if !ok {
			return false
		}
		var buf [64]byte
		mc := classify(unescape(name.of(n.b), escaped, buf[:]))
		text, ok := n.value(depth, mc, free || mc == memberMetadata)
		if !ok {
			return false
		}
		switch mc {
		case memberID:
			id = text
		case memberObject, memberType:
			customer = customer || text.end > text.start && isCustomerType(n.meaning(text))
		}
	}
	if customer && !free {
		n.add(id)
	}
	return true
}

func (n *namer) add(s span) {
	if s.start == s.end || len(n.customers) == maxNamed {
		return
	}
	if id := policy.CustomerID(n.meaning(s)); !slices.Contains(n.customers, id) {
		n.customers = append(n.customers, id)
	}
}
