package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// shot makes the bytes of one request: worker w's n-th.
type shot func(w, n int) []byte

// volley is one closed loop: as many connections as workers, each sending its next request when it has
// its last answer.
type volley struct {
	addr    string
	workers int
	warm    time.Duration // not counted
	last    time.Duration // counted
	status  int           // what every answer must have
	shot    shot
}

// result is what a volley saw. Latencies are sorted.
type result struct {
	took      time.Duration
	latencies []time.Duration
}

func (r *result) rate() float64 { return float64(len(r.latencies)) / r.took.Seconds() }

// at is the latency that a share q (0 to 1) of the answers stayed within.
func (r *result) at(q float64) time.Duration {
	if len(r.latencies) == 0 {
		return 0
	}
	return r.latencies[min(int(q*float64(len(r.latencies))), len(r.latencies)-1)]
}

// fire runs the volley. around is called at the beginning and the end of the counted time.
func (v *volley) fire(around func()) (*result, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	begin := time.Now().Add(v.warm)
	end := begin.Add(v.last)
	each := make([][]time.Duration, v.workers)
	var wg sync.WaitGroup
	for w := range v.workers {
		wg.Go(func() {
			var err error
			if each[w], err = v.worker(ctx, w, begin, end); err != nil {
				cancel(fmt.Errorf("connection %d: %w", w, err))
			}
		})
	}
	wg.Go(func() {
		for _, when := range []time.Time{begin, end} {
			select {
			case <-time.After(time.Until(when)):
				around()
			case <-ctx.Done():
				return
			}
		}
	})
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	r := &result{took: v.last, latencies: slices.Concat(each...)}
	slices.Sort(r.latencies)
	return r, nil
}

func (v *volley) worker(ctx context.Context, w int, begin, end time.Time) ([]time.Duration, error) {
	conn, err := net.Dial("tcp", v.addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // everything was read
	in := bufio.NewReaderSize(conn, 16<<10)
	var latencies []time.Duration
	for n := 0; ctx.Err() == nil; n++ {
		start := time.Now()
		if start.After(end) {
			break
		}
		if _, err := conn.Write(v.shot(w, n)); err != nil {
			return nil, err
		}
		status, body, err := readAnswer(in)
		if err != nil {
			return nil, err
		}
		if status != v.status {
			return nil, fmt.Errorf("answer %d is %d, not %d: %s", n, status, v.status, body)
		}
		if now := time.Now(); start.After(begin) && now.Before(end) {
			latencies = append(latencies, now.Sub(start))
		}
	}
	return latencies, nil
}

var contentLength = []byte("content-length:")

// readAnswer reads one answer with as little work as possible: the load runs on the cores that it measures.
// The body is valid until the next call.
func readAnswer(in *bufio.Reader) (status int, body []byte, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < 12 {
		return 0, nil, fmt.Errorf("status line %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, nil, fmt.Errorf("status line %q", line)
	}
	length, chunked := -1, false
	for {
		if line, err = in.ReadSlice('\n'); err != nil {
			return 0, nil, err
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			break
		}
		if len(line) > len(contentLength) && bytes.EqualFold(line[:len(contentLength)], contentLength) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(contentLength):]))); err != nil {
				return 0, nil, err
			}
		}
		chunked = chunked || bytes.EqualFold(line, []byte("transfer-encoding: chunked"))
	}
	switch {
	case chunked:
		body, err = readChunks(in)
	case length < 0:
		err = errors.New("an answer without a length")
	default:
		if body, err = in.Peek(length); err == nil {
			_, err = in.Discard(length)
		} else if errors.Is(err, bufio.ErrBufferFull) {
			body = make([]byte, length)
			_, err = io.ReadFull(in, body)
		}
	}
	return status, body, err
}

func readChunks(in *bufio.Reader) ([]byte, error) {
	var body []byte
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		size, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 31)
		if err != nil {
			return nil, err
		}
		body = slices.Grow(body, int(size))
		part := body[len(body) : len(body)+int(size)]
		if _, err := io.ReadFull(in, part); err != nil {
			return nil, err
		}
		body = body[:len(body)+int(size)]
		if _, err := in.ReadSlice('\n'); err != nil {
			return nil, err
		}
		if size == 0 {
			return body, nil
		}
	}
}

// head is what stripe-go sends with every request.
func head(method, path, host, key, more string) string {
	return method + " " + path + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: Stripe/v1 GoBindings/84.0.0\r\n" +
		"Authorization: Bearer " + key + "\r\nContent-Type: application/x-www-form-urlencoded\r\n" + more +
		"Stripe-Version: 2026-08-26.dahlia\r\n" +
		`X-Stripe-Client-User-Agent: {"bindings_version":"84.0.0","lang":"go","lang_version":"go1.26","publisher":"stripe","uname":"Linux"}` +
		"\r\nAccept-Encoding: gzip\r\n"
}

// get is the same read every time.
func get(addr, path, key string) shot {
	request := []byte(head(http.MethodGet, path, addr, key, "") + "\r\n")
	return func(int, int) []byte { return request }
}

// post sends a form as stripe-go does: chunked, under an idempotency key of its own. run tells apart runs
// against one store.
func post(addr, path, key, run string, form func(w, n int) string) shot {
	return func(w, n int) []byte {
		idem := fmt.Sprintf("Idempotency-Key: %s-%d-%d\r\nTransfer-Encoding: chunked\r\n", run, w, n)
		body := form(w, n)
		return fmt.Appendf(nil, "%s\r\n%x\r\n%s\r\n0\r\n\r\n", head(http.MethodPost, path, addr, key, idem), len(body), body)
	}
}
