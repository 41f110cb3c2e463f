package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// description is the API's own, as it is served, read by another library than the one that wrote it.
type description struct {
	paths   map[string]any
	schemas *jsonschema.Compiler
	mu      sync.Mutex
	known   map[string]*jsonschema.Schema // compiled, by where it stands
}

func readDescription(t *testing.T, handler http.Handler) *description {
	t.Helper()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost"+Description, nil))
	doc, err := jsonschema.UnmarshalJSON(w.Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatalf("the description: %d, %v", w.Code, err)
	}
	d := &description{schemas: jsonschema.NewCompiler(), known: map[string]*jsonschema.Schema{}}
	d.schemas.AssertFormat()
	if err := d.schemas.AddResource("doc.json", doc); err != nil {
		t.Fatal(err)
	}
	d.paths = doc.(map[string]any)["paths"].(map[string]any)
	return d
}

// route finds the operation of a request: literals beat parameters.
func (d *description) route(method, path string) (template string, operation map[string]any) {
	parts := strings.Split(path, "/")
	literals := -1
	for candidate, item := range d.paths {
		want := strings.Split(candidate, "/")
		n, fits := 0, len(want) == len(parts)
		for i := 0; fits && i < len(want); i++ {
			if want[i] == parts[i] {
				n++
			} else if !strings.HasPrefix(want[i], "{") {
				fits = false
			}
		}
		if op, ok := item.(map[string]any)[strings.ToLower(method)].(map[string]any); fits && ok && n > literals {
			template, operation, literals = candidate, op, n
		}
	}
	return template, operation
}

// contradicts says how an answer is another than the description promises; empty: it is as promised.
func (d *description) contradicts(method, path string, status int, header http.Header, body []byte) string {
	template, op := d.route(method, path)
	if op == nil {
		return "" // no operation of the API: nothing is promised
	}
	code := fmt.Sprint(status)
	responses := op["responses"].(map[string]any)
	response, ok := responses[code].(map[string]any)
	if !ok {
		return "no such status is described"
	}
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		return "its content type: " + err.Error()
	}
	content, _ := response["content"].(map[string]any)
	if _, ok := content[kind]; !ok {
		return "it is " + kind + ", described are " + strings.Join(slices.Sorted(maps.Keys(content)), ", ")
	}
	if header.Get("ETag") == "" && status == http.StatusOK {
		if headers, _ := response["headers"].(map[string]any); headers["ETag"] != nil {
			return "it has no ETag"
		}
	}
	if !strings.HasSuffix(kind, "json") || kind == jsonLines {
		return ""
	}
	schema, err := d.schema(fmt.Sprintf("doc.json#/paths/%s/%s/responses/%s/content/%s/schema",
		pointed(template), strings.ToLower(method), code, pointed(kind)))
	if err != nil {
		return err.Error()
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err == nil {
		err = schema.Validate(value)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func (d *description) schema(at string) (*jsonschema.Schema, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s, ok := d.known[at]; ok {
		return s, nil
	}
	s, err := d.schemas.Compile(at)
	d.known[at] = s
	return s, err
}

// pointed writes a part of a JSON pointer as a part of an address.
func pointed(part string) string {
	return strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(part)
}

// holds serves what handler does, and holds each answer that is not endless against the description.
func (d *description) holds(t *testing.T, handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := &seenAnswer{ResponseWriter: w, status: http.StatusOK}
		method, path := r.Method, r.URL.Path
		handler.ServeHTTP(seen, r)
		if why := d.contradicts(method, path, seen.status, w.Header(), seen.body.Bytes()); why != "" {
			t.Errorf("%s %s answers %d, which the API's description contradicts: %s\n%s", method, path, seen.status, why, seen.body.String())
		}
	})
}

type seenAnswer struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (s *seenAnswer) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

func (s *seenAnswer) Write(b []byte) (int, error) {
	s.body.Write(b)
	return s.ResponseWriter.Write(b)
}

// Unwrap lets handlers flush.
func (s *seenAnswer) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func TestAnAnswerThatIsNotAsDescribedIsSeen(t *testing.T) {
	w := newWorld(t)
	d := readDescription(t, w.Handler())
	plain := func(status int, header http.Header, text string) string {
		return d.contradicts(http.MethodGet, "/admin/v1/upstreams/stripe-test", status, header, []byte(text))
	}
	view, err := json.Marshal(w.upstream)
	if err != nil {
		t.Fatal(err)
	}
	asJSON := http.Header{"Content-Type": {"application/json"}, "Etag": {w.upstream.ETag}}
	if why := plain(200, asJSON, string(view)); why != "" {
		t.Errorf("an answer as described: %s", why)
	}
	for name, why := range map[string]string{
		"a status":       plain(402, asJSON, string(view)),
		"a content type": plain(200, http.Header{"Content-Type": {"text/html"}}, string(view)),
		"a missing ETag": plain(200, http.Header{"Content-Type": {"application/json"}}, string(view)),
		"another member": plain(200, asJSON, strings.Replace(string(view), `{`, `{"color":"red",`, 1)),
		"a lost member":  plain(200, asJSON, strings.Replace(string(view), `"id"`, `"ident"`, 1)),
		"another type":   plain(200, asJSON, strings.Replace(string(view), `"keys":0`, `"keys":"none"`, 1)),
	} {
		if why == "" {
			t.Errorf("%s that is not as described was not seen", name)
		}
	}
}

func TestTheDescriptionNeedsNoTokenAndHasWhoIsLetInAndItsErrors(t *testing.T) {
	w := newWorld(t)
	d := readDescription(t, w.Handler())
	for path, item := range d.paths {
		for method, op := range item.(map[string]any) {
			op := op.(map[string]any)
			if says, _ := op["description"].(string); !strings.Contains(says, "Lets in: admin") {
				t.Errorf("%s %s: %q", method, path, says)
			}
			responses := op["responses"].(map[string]any)
			for _, code := range []string{"200", "400", "401", "403", "422", "429", "500", "503"} {
				if responses[code] == nil {
					t.Errorf("%s %s does not describe %s", method, path, code)
				}
			}
			edit := method == "patch" || slices.Contains([]string{"set-webhook", "set-rates", "import-rates"}, op["operationId"].(string))
			if is := responses["412"] != nil; is != edit {
				t.Errorf("%s %s: a lost update is refused: %v", method, path, is)
			}
		}
	}
}
