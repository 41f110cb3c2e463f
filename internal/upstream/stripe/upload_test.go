package stripe

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/upstream"
)

// uploadCall is a form with a file, as the parts are written.
func uploadCall(body string) *upstream.RawCall {
	raw := with(formCall("POST", "/v1/files", "", ""), "Content-Type", `multipart/form-data; boundary=b`)
	raw.Stream = strings.NewReader(strings.ReplaceAll(body, "\n", "\r\n"))
	return raw
}

const (
	purposePart = "--b\nContent-Disposition: form-data; name=\"purpose\"\n\ndispute_evidence\n"
	filePart    = "--b\nContent-Disposition: form-data; name=\"file\"; filename=\"a.png\"\nContent-Type: image/png\n\nPNG&=\n"
	linkPart    = "--b\nContent-Disposition: form-data; name=\"file_link_data[create]\"\n\nTrue\n"
	end         = "--b--\n"
)

type anyCredential struct{}

func (anyCredential) Attach(*http.Request) error { return nil }

func TestAnUploadArrivesAsItWasJudged(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	a := newAdapter(t)
	for name, body := range map[string]string{
		"the purpose first":  purposePart + filePart + linkPart + end,
		"the file first":     filePart + linkPart + purposePart + end,
		"a path in the name": purposePart + strings.Replace(filePart, "a.png", `..\\up/a.png`, 1) + linkPart + end,
	} {
		t.Run(name, func(t *testing.T) {
			call, refusal := a.Parse(uploadCall(body), "")
			if refusal != nil {
				t.Fatal(refusal)
			}
			t.Cleanup(func() { _ = call.Upload.Close() })
			var got []string
			srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				got = parts(t, r)
				if r.ContentLength <= 0 {
					t.Error("it came without its length")
				}
			}))
			defer srv.Close()
			base, _ := url.Parse(srv.URL)
			answer := upstream.NewClient(nil).Do(t.Context(), base, anyCredential{}, &upstream.Request{
				Method: call.Method, Path: call.Path, Header: call.Header, Upload: call.Upload, Fields: call.Fields,
			})
			if answer.Err != nil {
				t.Fatal(answer.Err)
			}
			want := []string{"file_link_data[create]=true", "purpose=dispute_evidence", "file a.png image/png: PNG&="}
			if !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// parts lists what a form holds, as any reader of forms reads it.
func parts(t *testing.T, r *http.Request) (out []string) {
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	form := multipart.NewReader(r.Body, params["boundary"])
	for {
		p, err := form.NextPart()
		if err != nil {
			return out
		}
		body, _ := io.ReadAll(p)
		if p.FileName() == "" {
			out = append(out, p.FormName()+"="+string(body))
		} else {
			out = append(out, p.FormName()+" "+p.FileName()+" "+p.Header.Get("Content-Type")+": "+string(body))
		}
	}
}

func TestFilesTellCallsApart(t *testing.T) {
	a := newAdapter(t)
	sum := func(body string) [32]byte {
		call, refusal := a.Parse(uploadCall(body), "")
		if refusal != nil {
			t.Fatal(refusal)
		}
		_ = call.Upload.Close()
		return call.Fingerprint
	}
	one := sum(purposePart + filePart + end)
	if one != sum(filePart+purposePart+end) {
		t.Error("the order of the parts tells two calls apart")
	}
	if one == sum(purposePart+strings.Replace(filePart, "PNG", "GIF", 1)+end) {
		t.Error("two files are one call")
	}
}

func TestFormsWithFilesThatAreRefused(t *testing.T) {
	a := newAdapter(t)
	for name, raw := range map[string]*upstream.RawCall{
		"two files":              uploadCall(filePart + filePart + end),
		"a file of another name": uploadCall(strings.Replace(filePart, `"file"`, `"fil"`, 1) + end),
		"no file":                uploadCall(purposePart + end),
		"no end":                 uploadCall(purposePart + filePart),
		"a doubled purpose":      uploadCall(purposePart + purposePart + filePart + end),
		"an unknown parameter":   uploadCall(strings.Replace(purposePart, "purpose", "[purpose]", 1) + filePart + end),
		"a part without a name":  uploadCall("--b\nContent-Disposition: form-data\n\nx\n" + filePart + end),
		"an encoded part":        uploadCall(strings.Replace(filePart, "Content-Type", "Content-Transfer-Encoding: base64\nContent-Type", 1) + end),
		"a field without bounds": uploadCall(strings.Replace(purposePart, "dispute_evidence", strings.Repeat("a", maxField+1), 1) + filePart + end),
		"fields without bounds":  uploadCall(strings.Repeat(purposePart, maxFields+1) + filePart + end),
		"a file without bounds":  uploadCall(strings.Replace(filePart, "PNG", strings.Repeat("P", upstream.MaxUpload), 1) + end),
		"no boundary":            with(uploadCall(filePart+end), "Content-Type", "multipart/form-data"),
		"a form for another route": func() *upstream.RawCall {
			raw := with(formCall("POST", "/v1/refunds", "", "x"), "Content-Type", "multipart/form-data; boundary=b")
			return raw
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			call, refusal := a.Parse(raw, "")
			if refusal == nil {
				t.Errorf("it passed: %+v", call)
			}
			_ = raw.Upload.Close()
		})
	}
}

func TestAnUploadThatCannotBeSpooledIsNobodysFile(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "none"))
	if _, err := os.Stat(os.TempDir()); err == nil {
		t.Fatal("the folder is there")
	}
	if _, refusal := newAdapter(t).Parse(uploadCall(purposePart+filePart+end), ""); refusal == nil {
		t.Error("it passed without a file")
	}
}

func TestHostsOfStripe(t *testing.T) {
	stripe, _ := url.Parse("https://api.stripe.com")
	other, _ := url.Parse("http://127.0.0.1:12111")
	near, _ := url.Parse("https://api.stripe.com.evil.test")
	for _, tt := range []struct {
		base *url.URL
		host Host
		want string
	}{
		{stripe, "", "https://api.stripe.com"},
		{stripe, HostFiles, "https://files.stripe.com"},
		{stripe, HostConnect, "https://connect.stripe.com"},
		{other, HostFiles, "http://127.0.0.1:12111"},
		{near, HostFiles, "https://api.stripe.com.evil.test"},
	} {
		if got := Base(tt.base, string(tt.host)).String(); got != tt.want {
			t.Errorf("%s of %s: %s, want %s", tt.host, tt.base, got, tt.want)
		}
	}
	if n := len(Hosts(stripe)); n != 3 {
		t.Errorf("%d hosts of Stripe", n)
	}
	if n := len(Hosts(other)); n != 1 {
		t.Errorf("%d hosts of a sandbox", n)
	}
}

// FuzzUpload tries forms with a file: what is sent is read again as it was read, and sent again as it was sent.
func FuzzUpload(f *testing.F) {
	for _, body := range []string{
		purposePart + filePart + linkPart + end, filePart + purposePart + end, purposePart + end, filePart + filePart + end, filePart,
		strings.Replace(filePart, "a.png", `..\\up/a.png`, 1) + end, strings.Replace(filePart, "image/png", "text/html; charset=x", 1) + end,
		strings.Replace(purposePart, "purpose", "file_link_data[metadata][a b]", 1) + filePart + end,
		strings.Replace(filePart, `filename="a.png"`, `filename*=UTF-8''caf%C3%A9.png`, 1) + end,
	} {
		f.Add(body)
	}
	a := newAdapter(f)
	var sent []byte
	var contentType string
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		sent, _ = io.ReadAll(r.Body) // a broken form shows below
		contentType = r.Header.Get("Content-Type")
	}))
	f.Cleanup(srv.Close)
	base, _ := url.Parse(srv.URL)
	client := upstream.NewClient(nil)
	f.Cleanup(client.Close)
	pass := func(t *testing.T, raw *upstream.RawCall) *upstream.Call {
		call, refusal := a.Parse(raw, "")
		if raw.Upload != nil {
			t.Cleanup(func() { _ = raw.Upload.Close() })
		}
		if refusal != nil {
			return nil
		}
		answer := client.Do(t.Context(), base, anyCredential{}, &upstream.Request{
			Method: call.Method, Path: call.Path, Header: call.Header, Upload: call.Upload, Fields: call.Fields,
		})
		if answer.Err != nil {
			t.Fatal(answer.Err)
		}
		return call
	}
	f.Fuzz(func(t *testing.T, body string) {
		call := pass(t, uploadCall(body))
		if call == nil {
			return
		}
		first := sent
		raw := with(formCall("POST", "/v1/files", "", ""), "Content-Type", contentType)
		raw.Stream = bytes.NewReader(first)
		back := pass(t, raw)
		switch {
		case back == nil:
			t.Fatalf("%q is sent, but would be refused", first)
		case back.Fingerprint != call.Fingerprint || !slices.Equal(back.Fields, call.Fields) || !bytes.Equal(sent, first):
			t.Fatalf("%q is read again as another call and sent as %q", first, sent)
		case back.Upload.Name != call.Upload.Name || back.Upload.Type != call.Upload.Type || back.Upload.Sum != call.Upload.Sum:
			t.Fatalf("the file is another: %+v, was %+v", back.Upload, call.Upload)
		}
	})
}
