package console

import (
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"
)

// clock is whose times a page shows, and when it is.
type clock struct {
	zone *time.Location
	now  time.Time
}

// words are the words for times, as templates use them.
func (c *clock) words() template.FuncMap {
	return template.FuncMap{
		"clock": func(t time.Time) template.HTML { return timeTag(t, t.In(c.zone).Format("15:04:05")) },
		"moment": func(t time.Time) template.HTML {
			return timeTag(t, day(t.In(c.zone), c.now.In(c.zone))+t.In(c.zone).Format(":05"))
		},
		"when":  func(t time.Time) template.HTML { return timeTag(t, day(t.In(c.zone), c.now.In(c.zone))) },
		"date":  func(t time.Time) template.HTML { return timeTag(t, t.In(c.zone).Format("2 Jan 2006")) },
		"ago":   func(t time.Time) string { return span(c.now.Sub(t)) + " ago" },
		"until": func(t time.Time) string { return "in " + span(t.Sub(c.now)) },
		"age":   func(t time.Time) string { return span(c.now.Sub(t)) },
		"today": func() string { return c.now.In(c.zone).Format("Mon 2 Jan") },
	}
}

// timeTag keeps the moment beside its words.
func timeTag(t time.Time, words string) template.HTML {
	return template.HTML(`<time datetime="` + t.UTC().Format(time.RFC3339) + `">` + template.HTMLEscapeString(words) + `</time>`)
}

// day says a moment as shortly as it is still one: today by its clock, this week by its day.
func day(t, now time.Time) string {
	y, m, d := t.Date()
	switch ny, nm, nd := now.Date(); {
	case y == ny && m == nm && d == nd:
		return t.Format("15:04")
	case now.Sub(t).Abs() < 6*24*time.Hour:
		return t.Format("Mon 15:04")
	case y == ny:
		return t.Format("2 Jan 15:04")
	default:
		return t.Format("2 Jan 2006 15:04")
	}
}

// span says how long something is, in the two units that matter.
func span(d time.Duration) string {
	d = d.Abs()
	switch {
	case d < time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return joined(int(d/time.Minute), "min", int(d%time.Minute/time.Second), "s")
	case d < 48*time.Hour:
		return joined(int(d/time.Hour), "h", int(d%time.Hour/time.Minute), "min")
	default:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
}

func joined(a int, unit string, b int, small string) string {
	if b == 0 {
		return fmt.Sprintf("%d %s", a, unit)
	}
	return fmt.Sprintf("%d %s %d %s", a, unit, b, small)
}

// zoneName says whose times a page shows: the town of a zone's name.
func zoneName(z *time.Location) string {
	name := z.String()
	return strings.ReplaceAll(name[strings.LastIndexByte(name, '/')+1:], "_", " ")
}

// dollars writes a decimal string as money: 1234.5 is $1,234.50. What is no number stays as it is.
func dollars(s string) string {
	sign := ""
	if rest, negative := strings.CutPrefix(s, "-"); negative {
		s, sign = rest, "−"
	}
	whole, cents, _ := strings.Cut(s, ".")
	if whole == "" || strings.Trim(whole+cents, "0123456789") != "" {
		return sign + s
	}
	for len(cents) < 2 {
		cents += "0"
	}
	return sign + "$" + grouped(whole) + "." + cents
}

// count writes a whole number with its thousands apart.
func count(n int64) string {
	if n < 0 {
		return "−" + grouped(strconv.FormatInt(-n, 10))
	}
	return grouped(strconv.FormatInt(n, 10))
}

func grouped(digits string) string {
	var out strings.Builder
	for i, r := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			out.WriteByte(',')
		}
		out.WriteRune(r)
	}
	return out.String()
}

// plural writes a number with its word: 1 key, 2 keys.
func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(int64(n)) + " " + one + "s"
}

// milliseconds writes a short time as people compare it: 0.4 ms, 412 ms, 1.9 s.
func milliseconds(d time.Duration) string {
	switch ms := float64(d) / float64(time.Millisecond); {
	case ms < 10:
		return strconv.FormatFloat(ms, 'f', 1, 64) + " ms"
	case ms < 1000:
		return strconv.FormatFloat(ms, 'f', 0, 64) + " ms"
	default:
		return strconv.FormatFloat(ms/1000, 'f', 1, 64) + " s"
	}
}

// took says how long a call took and how much of it was ours.
func took(ours, theirs time.Duration) string {
	return milliseconds(ours+theirs) + ", of which Keybrake " + milliseconds(ours)
}

// shortHash shows the ends of a hash, in groups.
func shortHash(hex string) string {
	if len(hex) < 16 {
		return hex
	}
	return hex[:4] + " " + hex[4:8] + " … " + hex[len(hex)-4:]
}
