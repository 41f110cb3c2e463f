package process

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A receiver that never answers is asked while calls go on: if one waited for it, nothing here would end.
func TestAReceiverOfAlertsThatHangsKeepsNoCallWaiting(t *testing.T) {
	h := newHome(t)
	asked, release := make(chan struct{}, 100), make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-release
	}))
	t.Cleanup(receiver.Close)
	t.Cleanup(func() { close(release) })
	secret := filepath.Join(h.dir, "pager.secret")
	config := fmt.Sprintf("alerts:\n  targets:\n    - {name: pager, kind: webhook, url: %q, secret_file: %q, least: info}\n", receiver.URL, secret)
	for file, text := range map[string]string{secret: "whsec_Q0FOQVJZMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY=\n", filepath.Join(h.dir, "keybrake.yaml"): config} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := h.serve("--config", filepath.Join(h.dir, "keybrake.yaml"))
	key := h.ready()
	charge := h.seeded()[0].Charges[1]
	h.newKey("agent-support-refunds-p2")
	h.must(nil, "kill", "agent-support-refunds-p2") // which is told
	<-asked
	for range 20 {
		if r := call(t, http.DefaultClient, key, "POST", s.Gateway+"/v1/refunds", "charge="+charge+"&amount=500"); r.Status != 200 {
			t.Fatal(r)
		}
	}
	if r := call(t, http.DefaultClient, key, "POST", s.Gateway+"/v1/refunds", "charge="+charge+"&amount=500"); r.Status != 403 { // and the cap is told, too
		t.Fatal(r)
	}
	h.must(nil, "kill", "--all")
	if r := call(t, http.DefaultClient, key, "GET", s.Gateway+"/v1/charges/"+charge, ""); !killed(r) {
		t.Errorf("after the stop: %+v", r)
	}
	if r := h.run("alerts", "targets"); !strings.Contains(r.Out, "pager") {
		t.Errorf("its target is not shown: %s%s", r.Out, r.Err)
	}
}
