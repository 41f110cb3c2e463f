package console

import (
	"fmt"
	"html/template"
	"math/big"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
)

// parts are what templates make of values, whatever the page.
var parts = template.FuncMap{
	"atform": atForm, "breaks": breaks, "browser": browser, "dollars": dollars, "count": count, "plural": plural, "sentence": sentence, "icon": icon, "chip": chip, "brakeChip": brakeChip, "nodeChip": nodeChip, "verdictChip": verdictChip,
	"riskChip": riskChip, "diff": diffLines, "prose": prose,
	"ms": milliseconds, "took": took, "hash": shortHash,
	"list":  func(items ...string) []string { return items },
	"int":   func(n int64) int { return int(n) },
	"risks": func() []string { return []string{"extreme", "high", "medium", "low"} },
}

// breaks lets a long name break after its underscores, where a column is narrow.
func breaks(name string) template.HTML {
	return template.HTML(strings.ReplaceAll(template.HTMLEscapeString(name), "_", "_<wbr>"))
}

// prose shows what a sentence quotes in backticks as code.
func prose(text string) template.HTML {
	parts := strings.Split(template.HTMLEscapeString(text), "`")
	if len(parts)%2 == 0 {
		return template.HTML(strings.Join(parts, "`"))
	}
	for i := 1; i < len(parts); i += 2 {
		parts[i] = "<code>" + parts[i] + "</code>"
	}
	return template.HTML(strings.Join(parts, ""))
}

// atForm are the errors beside fields, for the form that they are of; nil for another one.
func atForm(at map[string]string, was, is string) map[string]string {
	if was != is {
		return nil
	}
	return at
}

// browser is what a User-Agent header says of the browser and the system, for people to tell their sessions apart.
func browser(agent string) string {
	name := "another browser"
	for _, b := range [][2]string{{"Edg/", "Edge"}, {"Firefox/", "Firefox"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"}, {"curl/", "curl"}} {
		if strings.Contains(agent, b[0]) {
			name = b[1]
			break
		}
	}
	for _, s := range [][2]string{{"Android", "Android"}, {"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Windows", "Windows"}, {"Mac OS", "macOS"}, {"Linux", "Linux"}} {
		if strings.Contains(agent, s[0]) {
			return name + " on " + s[1]
		}
	}
	return name
}

// diffLine is one change as it is shown; one side may be empty.
type diffLine struct{ Old, New string }

// diffLines reads what a record says of changes, a line each: "field: old -> new".
func diffLines(diff string) (out []diffLine) {
	for line := range strings.Lines(diff) {
		line = strings.TrimSuffix(line, "\n")
		field, change, ok := strings.Cut(line, ": ")
		before, after, both := strings.Cut(change, " -> ")
		switch {
		case !ok || !both:
			out = append(out, diffLine{New: line})
		default:
			var l diffLine
			if before != "(none)" {
				l.Old = field + ": " + before
			}
			if after != "(none)" {
				l.New = field + ": " + after
			}
			out = append(out, l)
		}
	}
	return out
}

// icon is a small picture; the word beside it says the same.
func icon(name string) template.HTML {
	return template.HTML(`<svg class="i" aria-hidden="true"><use href="#i-` + template.HTMLEscapeString(name) + `"/></svg>`)
}

// chip is an icon and a word in a tone: "", ok, warn, danger, solid.
func chip(tone, iconName, word string) template.HTML {
	out := `<span class="chip"`
	if tone != "" {
		out += ` data-tone="` + template.HTMLEscapeString(tone) + `"`
	}
	out += `>`
	if iconName != "" {
		out += string(icon(iconName))
	}
	return template.HTML(out + template.HTMLEscapeString(word) + `</span>`)
}

// brakeChip shows a brake: normal, read-only, stopped.
func brakeChip(brake string) template.HTML {
	switch brake {
	case "normal":
		return chip("", "run", "normal")
	case "read-only":
		return chip("warn", "eye", "read-only")
	default:
		return chip("solid", "stop", "stopped")
	}
}

// nodeChip shows how a node is: live, silent, ended.
func nodeChip(state string) template.HTML {
	switch state {
	case "live":
		return chip("ok", "ok", "live")
	case "ended":
		return chip("", "", "ended")
	default:
		return chip("danger", "warn", "silent: lets nothing pass")
	}
}

// verdictChip shows what became of a call: allow, deny, unknown, operator.
func verdictChip(verdict string) template.HTML {
	switch verdict {
	case "allow":
		return chip("ok", "ok", "allowed")
	case "deny":
		return chip("danger", "no", "denied")
	case "operator":
		return chip("", "person", "operator")
	case "system":
		return chip("", "run", "system")
	default:
		return chip("warn", "ask", "unknown")
	}
}

// risks in their order, with the tone of each.
var risks = []struct{ word, tone string }{{"low", ""}, {"medium", ""}, {"high", "warn"}, {"extreme", "danger"}}

// riskChip shows a risk by pips and its word.
func riskChip(risk string) template.HTML {
	at := -1
	for i, r := range risks {
		if r.word == risk {
			at = i
		}
	}
	if at < 0 {
		return chip("", "", risk)
	}
	out := `<span class="chip"`
	if risks[at].tone != "" {
		out += ` data-tone="` + risks[at].tone + `"`
	}
	out += `><svg class="pips" viewBox="0 0 18.5 12" aria-hidden="true">`
	for i := range risks {
		class := "on"
		if i > at {
			class = "off"
		}
		out += fmt.Sprintf(`<rect class="%s" x="%d" y="%d" width="3.5" height="%d" rx=".8"/>`, class, 5*i, 9-3*i, 3*(i+1))
	}
	return template.HTML(out + `</svg>` + template.HTMLEscapeString(risk) + ` risk</span>`)
}

// capBar is a cap as it stands: solid settled, hatched held, empty left.
type capBar struct {
	Resource, Per string
	Calls         bool
	Limit, Left   string // as they are written
	Settled, Held string
	// Over is what moved beyond the limit; empty: nothing did.
	Over     string
	Level    string // fine, near (from 80 %), full
	Percent  int
	SettledW string // widths in per cent
	HeldW    string
	ResetsAt time.Time
	Label    string
}

// Bounds of a cap bar's levels, in per cent.
const (
	nearFrom = 80
	fullFrom = 100
)

// newCapBar reads a cap of the API.
func newCapBar(c admin.SpendCap) capBar {
	b := capBar{Resource: c.Resource, Per: c.Per, Calls: c.Unit == "calls", ResetsAt: c.ResetsAt}
	write := dollars
	if b.Calls {
		write = func(s string) string { return s }
	}
	b.Limit, b.Left, b.Settled, b.Held = write(c.Limit.String()), write(c.Left.String()), write(c.Settled.String()), write(c.Held.String())
	limit, settled, held := number(c.Limit), number(c.Settled), number(c.Held)
	used := new(big.Rat).Add(settled, held)
	if used.Cmp(limit) > 0 {
		b.Over = write(new(big.Rat).Sub(used, limit).FloatString(decimals(b.Calls)))
	}
	b.Percent = share(used, limit)
	switch {
	case b.Percent >= fullFrom:
		b.Level = "full"
	case b.Percent >= nearFrom:
		b.Level = "near"
	default:
		b.Level = "fine"
	}
	settledW := min(permille(settled, limit), 1000)
	heldW := min(permille(held, limit), 1000-settledW)
	b.SettledW, b.HeldW = tenths(settledW), tenths(heldW)
	if b.Calls {
		b.Label = fmt.Sprintf("%s done, %s held, %s left of %s calls", b.Settled, b.Held, b.Left, b.Limit)
	} else {
		b.Label = fmt.Sprintf("%s settled, %s held, %s left of %s", b.Settled, b.Held, b.Left, b.Limit)
	}
	return b
}

func decimals(calls bool) int {
	if calls {
		return 0
	}
	return 2
}

// number reads a figure; what is none counts as nothing.
func number(f admin.Figure) *big.Rat {
	r, ok := new(big.Rat).SetString(f.String())
	if !ok {
		return new(big.Rat)
	}
	return r
}

// permille is a part of a whole. Of nothing, anything is all.
func permille(part, whole *big.Rat) int {
	if part.Sign() <= 0 {
		return 0
	}
	if whole.Sign() <= 0 {
		return 1000
	}
	n, _ := new(big.Rat).Quo(new(big.Rat).Mul(part, big.NewRat(1000, 1)), whole).Float64()
	return int(min(n, 1e6))
}

// share is a part of a whole in per cent, rounded down: 100 is full and nothing else is.
func share(part, whole *big.Rat) int {
	if part.Sign() == 0 && whole.Sign() <= 0 {
		return 100 // a cap of nothing is full
	}
	return permille(part, whole) / 10
}

func tenths(permille int) string { return fmt.Sprintf("%d.%d%%", permille/10, permille%10) }
