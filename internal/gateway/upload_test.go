package gateway_test

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
)

const filesPolicy = `
scopes: {files: write}
unmetered: [files.create]
customers: any`

// evidence is a form with a file, as an SDK writes it.
func evidence(t *testing.T, contents []byte) (body, contentType string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	must(t, w.WriteField("purpose", "dispute_evidence"))
	part, err := w.CreateFormFile("file", "receipt.pdf")
	must(t, err)
	_, err = part.Write(contents)
	must(t, err)
	must(t, w.Close())
	return b.String(), w.FormDataContentType()
}

func TestAFileGoesThroughInAFormOfOurOwn(t *testing.T) {
	stripe := &late{}
	w := buildWorld(t, setup{upstream: stripe})
	var got []byte
	var arrived int
	stripe.set(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		arrived++
		file, _, err := r.FormFile("file")
		if err != nil || r.URL.Path != "/v1/files" || r.FormValue("purpose") != "dispute_evidence" {
			t.Errorf("%s %v %v", r.URL.Path, err, r.Form)
			return
		}
		got, _ = io.ReadAll(file)
		rw.Header().Set("Content-Type", "application/json")
		rw.Header().Set("Request-Id", "req_1")
		_, _ = io.WriteString(rw, `{"id":"file_1","object":"file","purpose":"dispute_evidence"}`)
	}))
	contents := bytes.Repeat([]byte("%PDF-1.7 \x00\xff"), 1<<18) // larger than what a form without a file may be
	body, contentType := evidence(t, contents)

	key, k := w.key(filesPolicy)
	w.call(key, "POST", "/v1/files", body, "Content-Type", contentType).want(t, 200, "")
	if !bytes.Equal(got, contents) {
		t.Errorf("%d bytes arrived, %d were sent", len(got), len(contents))
	}
	if r := w.last(k.ID); r.Operation != "files.create" || len(r.Sent) > 4096 {
		t.Errorf("%s kept %d bytes of it", r.Operation, len(r.Sent))
	}

	t.Run("not without the scope", func(t *testing.T) {
		other, _ := w.key(moneyPolicy(`resource: refunds, per: day, usd: 5.00`))
		w.call(other, "POST", "/v1/files", body, "Content-Type", contentType).want(t, 401, "keybrake_scope_denied")
	})
	t.Run("not unless the policy names what leaves the gateway", func(t *testing.T) {
		other, _ := w.key("\nscopes: {files: write}\ncustomers: any")
		w.call(other, "POST", "/v1/files", body, "Content-Type", contentType).want(t, 403, "keybrake_unmeterable")
	})
	t.Run("not by somebody without a key", func(t *testing.T) {
		w.call("vault_key_test_nobody", "POST", "/v1/files", body, "Content-Type", contentType).want(t, 401, "keybrake_key_invalid")
	})
	t.Run("not where forms have no files", func(t *testing.T) {
		other, _ := w.key(moneyPolicy(`resource: refunds, per: day, usd: 5.00`))
		w.call(other, "POST", "/v1/refunds", strings.ReplaceAll(body[:200], "\x00", ""), "Content-Type", contentType).want(t, 400, "keybrake_request_malformed")
	})
	if arrived != 1 {
		t.Errorf("%d arrived", arrived)
	}
}
