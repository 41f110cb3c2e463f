package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"slices"
	"time"
)

// pagesAsked is how often each page is asked for.
const pagesAsked = 40

// betweenCalls is how long the agent waits that calls beside the pages.
const betweenCalls = 20 * time.Millisecond

// pages measures the console's pages as a browser gets them, with a call now and then so that nothing stands still. The
// first of a kind is told by itself: after a start it reads what the later ones find in memory.
func pages(ctx context.Context, o *options) error {
	dir, err := large(ctx, o)
	if err != nil {
		return err
	}
	return withRig(ctx, o, dir, func(r *rig) error {
		browser, err := r.signIn()
		if err != nil {
			return err
		}
		fmt.Printf("\nthe console's pages over %d keys and %d records\n\n| page | first | p50 | slowest of %d | size |\n|---|---|---|---|---|\n", o.keys, o.rows, pagesAsked)
		begin := time.Now()
		key, record, err := r.some(browser)
		if err != nil {
			return err
		}
		fmt.Printf("| the first two pages after the start | %s | | | |\n", ms(time.Since(begin)))
		calls := r.creates(o, "pages", 1)
		write := calls.shot
		calls.shot = func(w, n int) []byte { time.Sleep(betweenCalls); return write(w, n) }
		end := make(chan error, 1)
		halt, stop := context.WithCancel(ctx)
		go func() {
			_, err := calls.worker(halt, 0, time.Now(), time.Now().Add(time.Hour))
			end <- err
		}()
		worst, err := r.visit(browser, []string{
			"/", "/keys", "/keys?q=runner77", "/keys?order=name", "/keys?order=called", "/keys/" + key, "/keys/" + key + "/edit", "/keys/new",
			"/audit", "/audit?key=" + key, "/audit?operation=refunds.create", "/audit?verdict=deny", "/audit?q=nothing+like+this",
			"/audit?customer=cus_NobodyAtAll", "/audit?min=1000000", "/audit?max=0.01", "/audit/" + record,
			"/permissions", "/stopped", "/upstreams", "/rates", "/operators", "/alerts",
		})
		stop()
		if err := errors.Join(err, <-end); err != nil {
			return err
		}
		fmt.Printf("\nslowest median %s\n", ms(worst))
		return nil
	})
}

// signIn opens a session of the console.
func (r *rig) signIn() (*http.Client, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	browser := &http.Client{Jar: jar}
	_, status, err := fetch(browser.PostForm(r.console+"/login", url.Values{"token": {r.token}}))
	if err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("sign in: status %d, %w", status, err)
	}
	return browser, nil
}

// some finds a key and a record to look at.
func (r *rig) some(browser *http.Client) (key, record string, err error) {
	for _, one := range []struct {
		path string
		id   *regexp.Regexp
		to   *string
	}{{"/keys?order=name", regexp.MustCompile(`key_[a-z0-9]{10,}`), &key}, {"/audit", regexp.MustCompile(`aud_[0-9]+_[0-9]+`), &record}} {
		body, _, err := fetch(browser.Get(r.console + one.path))
		if err != nil {
			return "", "", err
		}
		if *one.to = one.id.FindString(string(body)); *one.to == "" {
			return "", "", fmt.Errorf("%s shows nothing: %.300s", one.path, body)
		}
	}
	return key, record, nil
}

func (r *rig) visit(browser *http.Client, paths []string) (worst time.Duration, err error) {
	for _, path := range paths {
		var took []time.Duration
		var size int
		for range pagesAsked {
			begin := time.Now()
			body, status, err := fetch(browser.Get(r.console + path))
			if err != nil || status != http.StatusOK {
				return 0, fmt.Errorf("%s: status %d, %w", path, status, err)
			}
			took, size = append(took, time.Since(begin)), len(body)
		}
		first := took[0]
		slices.Sort(took)
		median := took[len(took)/2]
		worst = max(worst, median)
		fmt.Fprintf(os.Stdout, "| `%s` | %s | %s | %s | %d kB |\n", path, ms(first), ms(median), ms(took[len(took)-1]), size/1000)
	}
	return worst, nil
}

func fetch(answer *http.Response, err error) ([]byte, int, error) {
	if err != nil {
		return nil, 0, err
	}
	defer answer.Body.Close() //nolint:errcheck // read to its end
	body, err := io.ReadAll(answer.Body)
	return body, answer.StatusCode, err
}
