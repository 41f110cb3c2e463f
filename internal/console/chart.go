package console

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
)

// perCent is a place across a chart.
func perCent(f float64) string { return fmt.Sprintf("%.2f%%", f*100) }

// round is a whole number of a size that people read, at least n: 1, 2 or 5 with noughts.
func round(n int64) int64 {
	for scale := int64(1); ; scale *= 10 {
		for _, step := range []int64{1, 2, 5} {
			if step*scale >= n {
				return step * scale
			}
		}
	}
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
