package main

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// welcome STATUS FILE [NAME]: presses the button of the page that the link in a file leads to, on the server at $ADMIN.
func welcome(ts *testscript.TestScript, _ bool, args []string) {
	_, rest, found := strings.Cut(ts.ReadFile(args[1]), "link=")
	if !found {
		ts.Fatalf("there is no link in %s", args[1])
	}
	form := url.Values{"link": {strings.Fields(rest)[0]}}
	if len(args) > 2 {
		form.Set("name", args[2])
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.PostForm(ts.Getenv("ADMIN")+"/welcome", form)
	ts.Check(err)
	ts.Check(resp.Body.Close())
	if !strings.HasPrefix(resp.Status, args[0]) {
		ts.Fatalf("the link answers %s, not %s", resp.Status, args[0])
	}
}
