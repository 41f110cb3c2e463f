package console

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
)

// chart is money over time, drawn and as a table.
type chart struct {
	ID, Title, Span, Unit string
	SVG                   template.HTML
	Rows                  []chartRow
}

type chartRow struct{ Label, Settled, Held string }

// perCent is a place across a chart.
func perCent(f float64) string { return fmt.Sprintf("%.2f%%", f*100) }

// round is a whole number of a size that people read, at least n: 1, 2 or 5 with noughts.
func round(n int64) int64 {
	for scale := int64(1); scale < math.MaxInt64/50; scale *= 10 {
		for _, step := range []int64{1, 2, 5} {
			if step*scale >= n {
				return step * scale
			}
		}
	}
	return n
}

// minuteChart draws calls per minute: allowed above the axis, denied below it.
func minuteChart(minutes []admin.Minute, zone *time.Location) template.HTML {
	const top, axis, bottom = 14.0, 92.0, 114.0
	var most, mostDenied int64 = 1, 1
	for _, m := range minutes {
		most, mostDenied = max(most, m.Allowed), max(mostDenied, m.Denied)
	}
	most = round(most)
	var b strings.Builder
	fmt.Fprintf(&b, `<div class="plot"><svg class="chart y" height="132" aria-hidden="true"><text x="100%%" y="96" text-anchor="end">0</text><text x="100%%" y="18" text-anchor="end">%s</text></svg>`, count(most))
	fmt.Fprintf(&b, `<svg class="chart" height="132" role="img" aria-label="%s">`, template.HTMLEscapeString(minuteWords(minutes, zone)))
	fmt.Fprintf(&b, `<line class="grid" x1="0" x2="100%%" y1="%g" y2="%g"/>`, top, top)
	step := 1 / float64(max(1, len(minutes)))
	for i, m := range minutes {
		x, w := perCent((float64(i)+0.15)*step), perCent(step*0.7)
		if m.Allowed > 0 {
			h := max(1, float64(m.Allowed)/float64(most)*(axis-top))
			fmt.Fprintf(&b, `<rect class="allowed" x="%s" width="%s" y="%.1f" height="%.1f"/>`, x, w, axis-h, h)
		}
		if m.Denied > 0 {
			h := max(1.8, float64(m.Denied)/float64(max(most, mostDenied))*(bottom-axis-2))
			fmt.Fprintf(&b, `<rect class="denied" x="%s" width="%s" y="94" height="%.1f"/>`, x, w, h)
		}
	}
	b.WriteString(`<line class="axis" x1="0" x2="100%" y1="93" y2="93"/>`)
	for i, at := range []int{0, len(minutes) / 2, len(minutes) - 1} {
		if at < 0 || at >= len(minutes) {
			continue
		}
		x, anchor := []string{"0%", "50%", "100%"}[i], []string{"start", "middle", "end"}[i]
		fmt.Fprintf(&b, `<text x="%s" y="130" text-anchor="%s">%s</text>`, x, anchor, minutes[at].At.In(zone).Format("15:04"))
	}
	b.WriteString(`</svg></div>`)
	return template.HTML(b.String()) // numbers, and words of ours that are escaped
}

// minuteWords tells what the chart shows.
func minuteWords(minutes []admin.Minute, zone *time.Location) string {
	if len(minutes) == 0 {
		return "No calls."
	}
	var allowed, denied, most int64
	at := minutes[0].At
	for _, m := range minutes {
		allowed, denied = allowed+m.Allowed, denied+m.Denied
		if m.Allowed+m.Denied > most {
			most, at = m.Allowed+m.Denied, m.At
		}
	}
	s := fmt.Sprintf("Calls per minute from %s to %s: %s allowed, %s denied", minutes[0].At.In(zone).Format("15:04"),
		minutes[len(minutes)-1].At.In(zone).Format("15:04"), count(allowed), count(denied))
	if most > 0 {
		s += fmt.Sprintf("; most at %s: %s", at.In(zone).Format("15:04"), count(most))
	}
	return s + "."
}

// spark draws the last half hour of calls in a line of text's height.
func spark(minutes []admin.Minute) template.HTML {
	if len(minutes) > 30 {
		minutes = minutes[len(minutes)-30:]
	}
	var most, least int64 = 0, -1
	for _, m := range minutes {
		n := m.Allowed + m.Denied
		most = max(most, n)
		if least < 0 || n < least {
			least = n
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="chart spark" role="img" aria-label="Calls per minute over %d minutes, between %d and %d">`, len(minutes), max(0, least), most)
	step := 1 / float64(max(1, len(minutes)))
	for i, m := range minutes {
		if n := m.Allowed + m.Denied; n > 0 {
			h := max(1, float64(n)/float64(most)*26)
			fmt.Fprintf(&b, `<rect class="allowed" x="%s" width="%s" y="%.1f" height="%.1f"/>`, perCent((float64(i)+0.12)*step), perCent(step*0.62), 28-h, h)
		}
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) // numbers only
}

// amountChart draws money over time: settled solid, held hatched on top, a cap as a dashed line. A limit of nothing draws
// none. word names a stretch below the axis, and long in the table.
func amountChart(what string, list []admin.Stretch, limit admin.Figure, word, long func(time.Time) string) chart {
	const top, axis = 14.0, 138.0
	c := chart{}
	capAt, _ := number(limit).Float64()
	most := capAt
	sums := make([][2]float64, len(list))
	best := -1
	for i, s := range list {
		settled, _ := number(s.Settled).Float64()
		held, _ := number(s.Held).Float64()
		sums[i] = [2]float64{settled, held}
		most = max(most, settled+held)
		if settled+held > 0 && (best < 0 || settled+held > sums[best][0]+sums[best][1]) {
			best = i
		}
		if settled+held > 0 {
			c.Rows = append([]chartRow{{long(s.Start), dollars(s.Settled.String()), dollars(s.Held.String())}}, c.Rows...)
		}
	}
	scale := float64(round(int64(math.Ceil(max(1, most)))))
	y := func(v float64) float64 { return axis - v/scale*(axis-top) }
	var b strings.Builder
	fmt.Fprintf(&b, `<div class="plot"><svg class="chart y" height="160" aria-hidden="true"><text x="100%%" y="142" text-anchor="end">$0</text><text x="100%%" y="18" text-anchor="end">$%s</text></svg>`, count(int64(scale)))
	says := what + ": nothing."
	if best >= 0 {
		says = fmt.Sprintf("%s: most in %s, %s settled and %s held.", what, long(list[best].Start), dollars(list[best].Settled.String()), dollars(list[best].Held.String()))
	}
	fmt.Fprintf(&b, `<svg class="chart" height="160" role="img" aria-label="%s"><line class="grid" x1="0" x2="100%%" y1="%g" y2="%g"/>`, template.HTMLEscapeString(says), top, top)
	step := 1 / float64(max(1, len(list)))
	for i, s := range sums {
		x, w := perCent((float64(i)+0.14)*step), perCent(step*0.72)
		if s[0] > 0 {
			h := max(1, axis-y(s[0]))
			fmt.Fprintf(&b, `<rect class="settled" x="%s" width="%s" y="%.1f" height="%.1f"/>`, x, w, axis-h, h)
		}
		if s[1] > 0 {
			fmt.Fprintf(&b, `<rect fill="url(#held-fine)" x="%s" width="%s" y="%.1f" height="%.1f"/>`, x, w, y(s[0]+s[1]), max(1, y(s[0])-y(s[0]+s[1])))
		}
	}
	fmt.Fprintf(&b, `<line class="axis" x1="0" x2="100%%" y1="%g" y2="%g"/>`, axis, axis)
	if capAt > 0 {
		fmt.Fprintf(&b, `<line class="limit" x1="0" x2="100%%" y1="%.1f" y2="%.1f"/><text class="limit-word" x="0" y="%.1f">cap %s</text>`, y(capAt), y(capAt), max(10, y(capAt)-6), dollars(limit.String()))
	}
	for i, at := range []int{0, len(list) / 4, len(list) / 2, 3 * len(list) / 4, len(list) - 1} {
		if at < 0 || at >= len(list) {
			continue
		}
		if i%2 == 1 { // no room for them beside another chart
			continue
		}
		anchor := []string{"start", "middle", "middle", "middle", "end"}[i]
		place := []float64{0, (float64(at) + 0.5) * step, (float64(at) + 0.5) * step, (float64(at) + 0.5) * step, 1}[i]
		fmt.Fprintf(&b, `<text x="%s" y="158" text-anchor="%s">%s</text>`, perCent(place), anchor, template.HTMLEscapeString(word(list[at].Start)))
	}
	b.WriteString(`</svg></div>`)
	c.SVG = template.HTML(b.String()) // numbers, and words of ours that are escaped
	return c
}

// keyCharts are a key's money per hour and per day.
func keyCharts(h admin.KeyHistory, zone *time.Location) (out []chart) {
	clock := func(t time.Time) string { return t.In(zone).Format("15:04") }
	hours := amountChart("Money per hour over 24 hours", h.Hours, admin.Figure{}, clock, clock)
	hours.ID, hours.Title, hours.Span, hours.Unit = "hours", "Money per hour", "last 24 h", "Hour"
	if !h.Whole {
		hours.Span = "last 24 h, the first calls only: there are too many"
	}
	out = append(out, hours)
	for i, d := range h.Days {
		date := func(t time.Time) string { return t.In(zone).Format("2 Jan") }
		c := amountChart(d.Resource+" per day over 14 days", d.Days, d.Limit, date, date)
		c.ID, c.Title, c.Span, c.Unit = fmt.Sprintf("days-%d", i), d.Resource+" per day", "last 14 days", "Day"
		out = append(out, c)
	}
	return out
}
