package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
)

// samples is how often a soak looks at the gateway.
const samples = 12

// soak lets a gateway live through a long ordinary day in short: agents that create, refund, read, ask for what they may not, dial
// anew for each call and leave in the middle of one; a vendor that cuts answers off; an operator who stops, resumes and looks.
// What it prints shows whether anything grows that has to stay: memory, goroutines, descriptors, the store's log.
func soak(ctx context.Context, o *options) error {
	return withRig(ctx, o, "", func(r *rig) error {
		browser, err := r.signIn()
		if err != nil {
			return err
		}
		day, end := context.WithTimeout(ctx, o.warm+o.last)
		defer end()
		s := &soaking{rig: r, answers: make(map[int]int), day: day}
		s.agents()
		s.every(10*time.Second, s.operate)
		s.every(5*time.Second, func() error { return s.look(browser) })
		fmt.Printf("\na soak of %s\n\n| after | answers | memory of its own | goroutines | descriptors | the store's log |\n|---|---|---|---|---|---|\n", o.last)
		var seen []sample
		for n := range samples + 1 {
			select {
			case <-time.After(time.Until(s.started.Add(o.warm + time.Duration(n)*o.last/samples))):
			case <-day.Done():
			}
			at, err := s.sample()
			if err := errors.Join(err, s.failure()); err != nil {
				return err
			}
			fmt.Printf("| %s | %d | %s | %d | %d | %s |\n", time.Since(s.started).Round(time.Second), at.answers, mb(at.own), at.goroutines, at.descriptors, mb(at.log))
			seen = append(seen, at)
		}
		end()
		s.running.Wait()
		half := len(seen) / 2
		fmt.Printf("\nsecond half/first half, medians: memory %.2f, goroutines %.2f, descriptors %.2f\nanswers by status:", grown(seen[:half], seen[half:], func(a sample) int64 { return a.own }),
			grown(seen[:half], seen[half:], func(a sample) int64 { return a.goroutines }), grown(seen[:half], seen[half:], func(a sample) int64 { return a.descriptors }))
		for _, status := range slices.Sorted(maps.Keys(s.answers)) {
			fmt.Printf(" %d: %d;", status, s.answers[status])
		}
		fmt.Println()
		return s.failure()
	})
}

// soaking is a soak that goes on. Its methods may be called from any goroutine.
type soaking struct {
	*rig
	day     context.Context
	started time.Time
	running sync.WaitGroup

	mu      sync.Mutex
	answers map[int]int // by status; 0: none
	failed  error
}

func (s *soaking) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// every calls f at a pace until the day ends.
func (s *soaking) every(pace time.Duration, f func() error) {
	s.running.Go(func() {
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for {
			select {
			case <-s.day.Done():
				return
			case <-tick.C:
			}
			if err := f(); err != nil && s.day.Err() == nil {
				s.mu.Lock()
				s.failed = errors.Join(s.failed, err)
				s.mu.Unlock()
				return
			}
		}
	})
}

func (s *soaking) agents() {
	s.started = time.Now()
	var charges []string
	for _, c := range s.seeded.Customers {
		charges = append(charges, c.Charges...)
	}
	run := fmt.Sprint("soak", s.started.UnixMilli())
	create := post(s.gatewayAddr, "/v1/payment_intents", s.creator, run, func(_, n int) string { return fmt.Sprintf("amount=%d&currency=usd", 1000+n%5000) })
	refund := post(s.gatewayAddr, "/v1/refunds", s.refunder, run, func(w, n int) string { return "amount=1&charge=" + charges[(w+n)%len(charges)] })
	read := get(s.gatewayAddr, "/v1/charges/"+charges[0], s.refunder)
	for w := range 8 {
		s.agent(50*time.Millisecond, w, create, true)
	}
	s.agent(200*time.Millisecond, 0, refund, true)
	s.agent(200*time.Millisecond, 1, refund, false)
	s.agent(50*time.Millisecond, 0, read, false)
	s.agent(50*time.Millisecond, 0, get(s.gatewayAddr, "/v1/charges/"+charges[0], s.creator), true) // which it may not
	s.agent(time.Second, 0, get(s.gatewayAddr, "/v1/charges/"+charges[0], "vault_key_live_guessed"), false)
	s.every(time.Second, func() error { return s.leave(create(9, 0)) })
	n := 0
	s.every(time.Second, func() error { n++; return s.leave(create(10, n)) })
}

// agent calls at a pace, on one connection or on a new one for each call.
func (s *soaking) agent(pace time.Duration, w int, shot shot, stays bool) {
	var conn net.Conn
	var in *bufio.Reader
	n := 0
	s.every(pace, func() (err error) {
		if conn == nil {
			if conn, err = net.Dial("tcp", s.gatewayAddr); err != nil {
				return err
			}
			in = bufio.NewReaderSize(conn, 16<<10)
		}
		n++
		status := 0
		if _, err = conn.Write(shot(w, n)); err == nil {
			status, _, err = readAnswer(in)
		}
		s.mu.Lock()
		s.answers[status]++
		s.mu.Unlock()
		if err != nil || !stays { // a refusal may close the connection
			_ = conn.Close()
			conn = nil
		}
		return nil
	})
}

// leave sends a call, or half of one, and goes away.
func (s *soaking) leave(request []byte) error {
	conn, err := net.Dial("tcp", s.gatewayAddr)
	if err != nil {
		return err
	}
	_, err = conn.Write(request)
	if err == nil {
		_, err = conn.Write(request[:len(request)/2])
	}
	return errors.Join(err, conn.Close())
}

// operate stops the refunding key, resumes it, and has the vendor cut off an answer whose effect is there.
func (s *soaking) operate() error {
	keys, err := s.admin.Keys(s.day, admin.KeyFilter{})
	if err != nil {
		return err
	}
	i := slices.IndexFunc(keys.Items, func(k admin.KeyView) bool { return strings.HasPrefix(k.Name, "agent-bench-refund") })
	target := admin.Target{Keys: []string{keys.Items[i].ID}}
	if _, err := s.admin.Kill(s.day, admin.KillRequest{Target: target, Reason: "soak"}); err != nil {
		return err
	}
	if _, err := s.admin.Resume(s.day, admin.ResumeRequest{Target: target, Reason: "soak"}); err != nil {
		return err
	}
	_, status, err := fetch(http.Post("http://"+s.sandboxAddr+"/_sandbox/faults", "application/json", strings.NewReader(`{"kind":"cut","after":true,"method":"POST","path":"/v1/payment_intents","times":1}`)))
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("the sandbox answered a fault with %d", status)
	}
	return err
}

// look is an operator with the console open, who leaves its live figures after a second.
func (s *soaking) look(browser *http.Client) error {
	for _, page := range []string{"/", "/audit", "/keys"} {
		if _, _, err := fetch(browser.Get(s.console + page)); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(s.day, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.console+"/live", nil)
	if err != nil {
		return err
	}
	answer, err := browser.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close() //nolint:errcheck // it is left on purpose
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the live figures answered %d", answer.StatusCode)
	}
	_, err = io.Copy(io.Discard, answer.Body)
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	return err
}

// sample is how the gateway stands at one moment: sizes in bytes.
type sample struct {
	answers                           int
	own, goroutines, descriptors, log int64
}

func (s *soaking) sample() (a sample, err error) {
	m, err := s.gateway.memory()
	if err != nil {
		return a, err
	}
	wal, err := os.Stat(storePath(s.dir) + "-wal")
	if err != nil {
		return a, err
	}
	a.own, a.log = m.anon, wal.Size()
	req, err := http.NewRequest(http.MethodGet, s.console+"/metrics", nil)
	if err != nil {
		return a, err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	text, _, err := fetch(http.DefaultClient.Do(req))
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if to := map[string]*int64{"go_goroutines": &a.goroutines, "process_open_fds": &a.descriptors}[name]; to != nil {
			n, parseErr := strconv.ParseFloat(value, 64)
			*to, err = int64(n), errors.Join(err, parseErr)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.answers {
		a.answers += n
	}
	return a, err
}

// grown is the ratio of the medians of one figure.
func grown(first, second []sample, of func(sample) int64) float64 {
	figures := func(in []sample) (out []float64) {
		for _, a := range in {
			out = append(out, float64(of(a)))
		}
		return out
	}
	return median(figures(second)) / median(figures(first))
}
