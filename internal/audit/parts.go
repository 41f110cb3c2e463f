package audit

import "bytes"

// What the processes of one store write about themselves, of which Subject is the name in Record.Node.
const (
	ActionNodeJoin  = "node.join"  // its part of the record begins
	ActionNodeLeave = "node.leave" // it has closed its part
	ActionNodeLost  = "node.lost"  // it is no more, or was silent for long, and another one has closed its part
)

// Part is what one process wrote of a record that several write: between its joining and its end. Where a process was given
// up and came back, it is both times together.
type Part struct {
	Node        string
	First, Last int64 // numbers of its records; 0: none of those that were looked at
	Records     int64
	// Joined: it begins with the process's joining; otherwise that came before what was looked at.
	Joined bool
	Ended  string // how, as ActionNodeLeave or ActionNodeLost; empty: it is open
}

// parts tells the parts of a record, in the order of their first records.
type parts struct {
	list []*Part
	by   map[string]*Part
	// whole: nothing came before what is looked at, so every part has its beginning in it.
	whole bool
}

func (p *parts) of(node string) *Part {
	part := p.by[node]
	if part == nil {
		if p.by == nil {
			p.by = make(map[string]*Part)
		}
		part = &Part{Node: node}
		p.by[node], p.list = part, append(p.list, part)
	}
	return part
}

// take takes a record in. It says what is wrong if the record is of a process whose part it does not lie in.
func (p *parts) take(seq int64, body []byte) (wrong string) {
	node, ok := fieldOf(body, `,"node":"`)
	if !ok {
		return "" // of a store that only one process serves, or of a program that did not tell
	}
	part, action, subject := p.of(node), "", ""
	if bytes.Contains(body, []byte(`,"action":"node.`)) {
		action, _ = fieldOf(body, `,"action":"`)
		subject, _ = fieldOf(body, `,"subject":"`)
	}
	switch {
	case action == ActionNodeJoin:
		part.Joined, part.Ended = part.Joined || part.Records == 0, ""
	case part.Ended != "":
		return "it is of the node " + node + ", whose part of the record had been closed"
	case part.Records == 0 && p.whole:
		return "it is of the node " + node + ", whose part of the record was not begun"
	}
	if part.First == 0 {
		part.First = seq
	}
	part.Last = seq
	part.Records++
	if action == ActionNodeLeave || action == ActionNodeLost {
		p.of(subject).Ended = action
	}
	return ""
}

// fieldOf reads a text field of a record's top level from its bytes, as it is written there. No other place of a record
// reads like the beginning of one: in texts quotation marks are escaped, and inner objects have no field of the name.
func fieldOf(body []byte, begin string) (string, bool) {
	_, rest, found := bytes.Cut(body, []byte(begin))
	value, _, closed := bytes.Cut(rest, []byte(`"`))
	return string(value), found && closed
}

// JoinParts joins the parts of one stretch of a record with those of the stretch before it. whole says that nothing came
// before that one. The problem is a record outside its process's part; nil: there is none.
func JoinParts(before, after []*Part, whole bool) (joined []*Part, outside *Part) {
	var p parts
	for _, part := range before {
		*p.of(part.Node) = *part
	}
	for _, part := range after {
		had := p.by[part.Node]
		if part.Records > 0 && !part.Joined && (had == nil && whole || had != nil && had.Ended != "") {
			return p.list, part
		}
		if had == nil {
			*p.of(part.Node) = *part
			continue
		}
		if had.First == 0 {
			had.First, had.Joined = part.First, part.Joined
		}
		had.Last, had.Records, had.Ended = max(had.Last, part.Last), had.Records+part.Records, part.Ended
	}
	return p.list, nil
}
