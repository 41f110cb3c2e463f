package requests

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/keybrake/keybrake/test/openapi"
)

// Values of parameters that mean the same everywhere.
var common = map[string]string{
	"currency": "usd", "country": "US", "email": "agent@example.com", "url": "https://example.com/a?b=c&d=%20e",
	"language": "en", "timezone": "Europe/Berlin",
}

// freeText are parameters that take any text: in a full request one that a careless writer would break.
var freeText = []string{"description", "name", "nickname", "memo", "footer", "custom_text", "message", "title", "product_description"}

const hardText = "Caffè & Söhne; 100% [a]=b+c #1"

// A time and an amount that every parameter takes.
const (
	someTime   = 1893456000
	someAmount = 1000
)

// plain is a value of a single type. Texts are ids that are named like their parameter.
func (w *writer) plain(name string, s *openapi.Schema) string {
	switch s.Type {
	case "boolean":
		return strconv.FormatBool(w.full)
	case "integer":
		if s.Format == "unix-time" {
			return strconv.Itoa(someTime + w.element)
		}
		return strconv.Itoa(someAmount + w.element)
	case "number":
		return "12.5"
	}
	if words := slices.DeleteFunc(slices.Clone(s.Enum), func(v any) bool { return v == "" }); len(words) > 0 {
		i := w.element
		if w.full {
			i += len(words) - 1
		}
		return fmt.Sprint(words[i%len(words)])
	}
	text := name + "_" + strconv.Itoa(w.element+1)
	switch {
	case common[name] != "":
		text = common[name]
	case s.Format == "currency":
		text = common["currency"]
	case s.Format == "decimal":
		text = "12.5"
	case strings.HasSuffix(name, "url"):
		text = common["url"]
	case w.full && slices.Contains(freeText, name):
		text = hardText
	}
	if runes := []rune(text); s.MaxLength > 0 && len(runes) > s.MaxLength {
		text = string(runes[:s.MaxLength])
	}
	return text
}
