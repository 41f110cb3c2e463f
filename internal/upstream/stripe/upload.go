package stripe

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"path"
	"strings"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/upstream"
)

// uploads is the route that takes a file: the only one of Stripe's that reads multipart/form-data.
const uploads = "/v1/files"

// hosts are Stripe's hosts beside that of its API, by the first label of their names. The stream of meter events
// has one too, but takes a session's token: it is denied.
var hosts = map[Host]string{HostFiles: "files", HostConnect: "connect"}

// Base implements upstream.Adapter. Stripe serves uploads and OAuth from hosts of their own beside
// api.stripe.com; whatever stands at another address (a sandbox, a test server) serves them all there.
func (a *Adapter) Base(base *url.URL, host string) *url.URL { return Base(base, host) }

// Base is Adapter.Base, for whoever pins the hosts of an upstream before there is a call.
func Base(base *url.URL, host string) *url.URL {
	label := hosts[Host(host)]
	domain, ok := strings.CutPrefix(base.Host, "api.")
	if label == "" || !ok || domain != "stripe.com" {
		return base
	}
	other := *base
	other.Host = label + "." + domain
	return &other
}

// Hosts lists every base URL that the secret of an upstream may be sent to, that of its API first.
func Hosts(base *url.URL) []*url.URL {
	out := []*url.URL{base}
	for _, h := range []Host{HostFiles, HostConnect} {
		if other := Base(base, string(h)); other != base {
			out = append(out, other)
		}
	}
	return out
}

// TakesUpload implements upstream.Adapter.
func (a *Adapter) TakesUpload(method, path, contentType string) bool {
	path = strings.TrimPrefix(path, "/stripe")
	return method == "POST" && path == uploads && strings.HasPrefix(strings.ToLower(contentType), "multipart/form-data")
}

// readUpload reads a form with a file once: its fields, in the form that every other call has, and the file
// into a spool.
func readUpload(raw *upstream.RawCall) *policy.Refusal {
	if raw.Stream == nil {
		return nil
	}
	stream := raw.Stream
	raw.Stream = nil
	_, params, err := mime.ParseMediaType(first(raw.Header, "Content-Type"))
	if err != nil || params["boundary"] == "" {
		return malformed("Content-Type", "The content type names no boundary between the parts of the form.")
	}
	r := multipart.NewReader(stream, params["boundary"])
	var form []string
	for {
		part, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return malformed("", "The form with the file cannot be read to its end; send it again.")
		}
		field, refusal := readPart(raw, part)
		if refusal != nil {
			return refusal
		}
		if field != "" {
			form = append(form, field)
		}
		if len(form) > maxFields {
			return malformed("", fmt.Sprintf("The form has more than %d text fields.", maxFields))
		}
	}
	if raw.Upload == nil {
		return malformed("file", "The form has no file in it: send one part with a file name.")
	}
	raw.Form = strings.Join(form, "&")
	return nil
}

// maxField bounds a text field of a form with a file, and maxFields their number.
const (
	maxField    = 4 << 10
	maxFields   = 64
	maxFileName = 255 // what file systems take
)

// readPart reads one part: a text field, encoded as it would stand in a form without files, or the file.
func readPart(raw *upstream.RawCall, part *multipart.Part) (field string, refusal *policy.Refusal) {
	disposition, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	name := params["name"]
	if err != nil || disposition != "form-data" || name == "" || part.Header.Get("Content-Transfer-Encoding") != "" {
		return "", malformed("", "A part of the form is not what a form has: it must be form-data with a name and without a transfer encoding.")
	}
	file, isFile := params["filename"]
	if !isFile {
		text, err := io.ReadAll(io.LimitReader(part, maxField+1))
		if err != nil || len(text) > maxField {
			return "", malformed(clip(name), fmt.Sprintf("A text field of the form is cut short or longer than %d bytes.", maxField))
		}
		return url.QueryEscape(name) + "=" + url.QueryEscape(string(text)), nil
	}
	if name != "file" || raw.Upload != nil {
		return "", malformed(clip(name), "The form must have one file, in the part \"file\".")
	}
	raw.Upload, err = upstream.Spool(name, fileName(file), mediaType(part.Header.Get("Content-Type")), part)
	switch {
	case errors.Is(err, upstream.ErrUploadTooLarge):
		return "", malformed("file", fmt.Sprintf("The file is larger than %d bytes, the most that passes through Keybrake.", upstream.MaxUpload))
	case err != nil:
		return "", malformed("file", "The file could not be read to its end; send it again.")
	}
	return "", nil
}

// fileName is the name that Stripe is told: without folders and control characters.
func fileName(name string) string {
	name = path.Base(strings.ReplaceAll(name, `\`, "/"))
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '"' {
			return -1
		}
		return r
	}, name)
	if name == "" || name == "." || name == ".." || name == "/" {
		return "file"
	}
	return strings.ToValidUTF8(name[:min(len(name), maxFileName)], "")
}

// mediaType is a part's media type, if it is one, without parameters.
func mediaType(s string) string {
	if t, _, err := mime.ParseMediaType(s); err == nil {
		return t
	}
	return "application/octet-stream"
}

// formFields are the parameters of an upload, one field a value, as they are sent beside the file.
func formFields(p *Params) []upstream.FormField {
	var out []upstream.FormField
	for pair := range strings.SplitSeq(string(p.EncodeForm()), "&") {
		name, value, _ := strings.Cut(pair, "=")
		n, err1 := url.QueryUnescape(name)
		v, err2 := url.QueryUnescape(value)
		if err1 == nil && err2 == nil && n != "" { // of our own making
			out = append(out, upstream.FormField{Name: n, Value: v})
		}
	}
	return out
}
