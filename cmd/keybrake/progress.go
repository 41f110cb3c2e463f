package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// progressEvery is how often long work tells a terminal how far it is.
const progressEvery = 500 * time.Millisecond

// progress counts what is written and, on a terminal, tells how much that is.
type progress struct {
	w     io.Writer
	to    io.Writer // nil: nobody watches
	bytes int64
	shown time.Time
}

// progress watches a writer if somebody can see it: errors go to a terminal, and what is written does not.
func (s streams) progress(w io.Writer, toFile bool) *progress {
	p := &progress{w: w, shown: time.Now()}
	if isTerminal(s.err) && (toFile || !isTerminal(s.out)) {
		p.to = s.err
	}
	return p
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Write implements io.Writer.
func (p *progress) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	p.bytes += int64(n)
	p.say(fmt.Sprintf("%.1f MB", float64(p.bytes)/1e6))
	return n, err
}

// say tells how far the work is, if somebody watches and was not told just now.
func (p *progress) say(what string) {
	if p.to != nil && time.Since(p.shown) >= progressEvery {
		p.shown = time.Now()
		_, _ = fmt.Fprint(p.to, "\r\x1b[K"+what) // only decoration
	}
}

func (p *progress) end() {
	if p.to != nil {
		_, _ = fmt.Fprint(p.to, "\r\x1b[K") // likewise
	}
}
