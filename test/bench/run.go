package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/upstream/stripe/sandbox"
)

// secret has full access in the sandbox.
const secret = "sk_test_bench"

// connections is the width of every volley that is not a lone caller.
const connections = 64

type options struct {
	keybrake, caddy string
	what            []string
	warm, last      time.Duration
	dir             string // of large stores, kept between runs
	keys, rows      int
	rounds          int    // of what is measured in turn; the medians count
	against         string // the binary that compare measures in turn with keybrake
	with            string // NAME=VALUE in the environment of that one; empty: nothing
	environment     []string
}

func run(args []string) error {
	var o options
	var what string
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	flags.StringVar(&o.keybrake, "keybrake", "keybrake", "the binary under measurement")
	flags.StringVar(&o.caddy, "caddy", "", "Caddy, built from ./caddy; empty: left out")
	flags.StringVar(&what, "what", "create,refund,lone,reads,big,export", "what to measure")
	flags.StringVar(&o.against, "against", "", "for compare: another binary; empty: the same")
	flags.StringVar(&o.with, "with", "", "for compare: NAME=VALUE in the other's environment")
	flags.IntVar(&o.rounds, "rounds", 3, "how often what is compared is measured in turn")
	flags.DurationVar(&o.warm, "warm", 2*time.Second, "time before each measurement")
	flags.DurationVar(&o.last, "last", 8*time.Second, "time of each measurement")
	flags.StringVar(&o.dir, "dir", filepath.Join(os.TempDir(), "keybrake-bench"), "where the large store is kept")
	flags.IntVar(&o.keys, "keys", 100_000, "vault keys in the large store")
	flags.IntVar(&o.rows, "rows", 5_000_000, "audit records in the large store")
	if err := flags.Parse(args); err != nil {
		return err
	}
	o.what = strings.Split(what, ",")
	ctx := context.Background()
	for _, part := range []struct {
		name string
		run  func(context.Context, *options) error
	}{{"create", create}, {"refund", refund}, {"lone", lone}, {"reads", reads}, {"big", big}, {"export", export}, {"pages", pages}, {"compare", compare}, {"nodes", nodes}, {"gateways", gateways}, {"soak", soak}} {
		if !slices.Contains(o.what, part.name) {
			continue
		}
		if err := part.run(ctx, &o); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// rig is a sandbox and a gateway as processes of their own, with keys to use.
type rig struct {
	sandbox, gateway *process
	sandboxAddr      string // host:port
	gatewayAddr      string
	admin            *admin.Client
	console, token   string // the admin address, and what signs in there
	seeded           sandbox.Seeded
	dir              string
	up               time.Duration // from the gateway's start to its ready file
	idle             memory        // of the gateway then
	// Keys: one that may create payment intents, one that may refund and read.
	creator, refunder string
	serve             []string // flags that say which store
	closers           []func() error
}

const creatorPolicy = `
name: agent-bench-create-%[1]d
upstream: %[2]s
scopes: {payment_intents: write}
caps: [{resource: payment_intents, per: day, usd: 900000000.00}]
customers: any
`

const refunderPolicy = `
name: agent-bench-refund-%[1]d
upstream: %[2]s
scopes: {charges: read, refunds: write}
caps: [{resource: refunds, per: day, usd: 900000000.00}]
customers: any
`

// newRig starts everything on the store in dir; empty: a new one that goes away with the rig.
func newRig(ctx context.Context, o *options, dir string) (_ *rig, err error) {
	r := &rig{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if dir == "" {
		if r.dir, err = os.MkdirTemp("", "keybrake-bench-"); err != nil {
			return nil, err
		}
		r.closers = append(r.closers, func() error { return os.RemoveAll(r.dir) })
	}
	r.serve = []string{"--store", "sqlite:" + storePath(r.dir)}
	if err := r.startSandbox(o); err != nil {
		return nil, err
	}
	if err := r.makeKeys(ctx); err != nil {
		return nil, err
	}
	return r, r.startGateway(o)
}

func (r *rig) close() error {
	var errs []error
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i]())
	}
	r.closers = nil
	return errors.Join(errs...)
}

func (r *rig) startSandbox(o *options) error {
	first := &firstLine{line: make(chan string, 1)}
	cmd := exec.Command(o.keybrake, "sandbox")
	cmd.Stdout = first
	p, err := start("sandbox", cmd)
	if err != nil {
		return err
	}
	r.sandbox = p
	r.closers = append(r.closers, p.stop)
	var line string
	if err := p.until("printing its address", func() bool {
		select {
		case line = <-first.line:
			return true
		default:
			return false
		}
	}); err != nil {
		return err
	}
	r.sandboxAddr = strings.TrimPrefix(line, "sandbox: http://")
	answer, err := http.Post("http://"+r.sandboxAddr+"/_sandbox/seed", "", nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close() //nolint:errcheck // read to its end
	return json.NewDecoder(answer.Body).Decode(&r.seeded)
}

// makeKeys writes upstream and keys as an operator would, before the gateway starts.
func (r *rig) makeKeys(ctx context.Context) error {
	b, err := openBooks(ctx, r.dir)
	if err != nil {
		return err
	}
	err = func() error {
		up, err := b.upstream(ctx, "http://"+r.sandboxAddr)
		if err != nil {
			return err
		}
		for _, k := range []struct {
			key  *string
			yaml string
		}{{&r.creator, creatorPolicy}, {&r.refunder, refunderPolicy}} {
			made, err := b.key(ctx, k.yaml, up)
			if err != nil {
				return err
			}
			*k.key = made.Key
		}
		return nil
	}()
	return errors.Join(err, b.close())
}

func (r *rig) startGateway(o *options) error {
	ready := filepath.Join(r.dir, "ready.json")
	if err := os.RemoveAll(ready); err != nil {
		return err
	}
	begin := time.Now()
	cmd := exec.Command(o.keybrake, append([]string{"serve", "--ready-file", ready,
		"--gateway-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
		"--lookups-per-second", "1000000", "--lookups-per-upstream", "1000000"}, r.serve...)...)
	cmd.Env = append(append(os.Environ(), "XDG_STATE_HOME="+r.dir), o.environment...)
	p, err := start("gateway", cmd)
	if err != nil {
		return err
	}
	r.gateway = p
	r.closers = append(r.closers, p.stop)
	var where struct {
		Gateway string `json:"gateway"`
		Admin   string `json:"admin"`
		Token   string `json:"admin_token"`
	}
	if err := p.until("writing its ready file", func() bool {
		text, err := os.ReadFile(ready)
		return err == nil && json.Unmarshal(text, &where) == nil
	}); err != nil {
		return err
	}
	r.up = time.Since(begin)
	u, err := url.Parse(where.Gateway)
	if err != nil {
		return err
	}
	r.gatewayAddr = u.Host
	r.console, r.token = where.Admin, where.Token
	if r.admin, err = admin.NewClient(where.Admin, where.Token); err != nil {
		return err
	}
	if r.idle, err = p.memory(); err != nil {
		return err
	}
	return p.forgetPeak()
}

// height stops the gateway and tells how many records its store has.
func (r *rig) height(ctx context.Context) (n int64, err error) {
	if err := r.gateway.stop(); err != nil {
		return 0, err
	}
	b, err := openBooks(ctx, r.dir)
	if err != nil {
		return 0, err
	}
	err = b.store.View(ctx, func(tx store.Tx) (err error) {
		n, _, err = tx.Height()
		return err
	})
	return n, errors.Join(err, b.close())
}

// spent measures what processes spend while a volley is counted, per answer.
type spent struct {
	processes []*process
	at        [][]time.Duration
	err       error
}

func (s *spent) look() {
	var now []time.Duration
	for _, p := range s.processes {
		d, err := p.cpu()
		s.err = errors.Join(s.err, err)
		now = append(now, d)
	}
	s.at = append(s.at, now)
}

// per is what process i spent per answer.
func (s *spent) per(i, answers int) time.Duration {
	if len(s.at) < 2 || answers == 0 {
		return 0
	}
	return (s.at[1][i] - s.at[0][i]) / time.Duration(answers)
}

// shoot fires one volley, measures the processes beside it and prints a row.
func shoot(w io.Writer, name string, v *volley, processes ...*process) (*result, *spent, error) {
	s := &spent{processes: processes}
	r, err := v.fire(s.look)
	if err := errors.Join(err, s.err); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	row := fmt.Sprintf("| %s | %d | %.0f | %s | %s | %s |", name, v.workers, r.rate(), ms(r.at(0.5)), ms(r.at(0.99)), ms(r.at(0.999)))
	for i, p := range processes {
		row += fmt.Sprintf(" %s %d µs", p.name, s.per(i, len(r.latencies)).Microseconds())
	}
	fmt.Fprintln(w, row, "|")
	return r, s, nil
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000) }

func heading(w io.Writer, title string) {
	fmt.Fprintf(w, "\n%s\n\n| what | connections | answers/s | p50 | p99 | p99.9 | CPU per answer |\n|---|---|---|---|---|---|---|\n", title)
}
