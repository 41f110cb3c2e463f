package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/store/storetest"
	"github.com/keybrake/keybrake/internal/vault"
)

// withRig runs f on a rig and takes it down.
func withRig(ctx context.Context, o *options, dir string, f func(*rig) error) error {
	r, err := newRig(ctx, o, dir)
	if err != nil {
		return err
	}
	return errors.Join(f(r), r.close())
}

// creates is the volley of the target: payment_intents.create as stripe-go sends it, no look-up.
func (r *rig) creates(o *options, name string, workers int) *volley {
	run := fmt.Sprintf("%s%d", name, time.Now().UnixMilli())
	return &volley{
		addr: r.gatewayAddr, workers: workers, warm: o.warm, last: o.last, status: 200,
		shot: post(r.gatewayAddr, "/v1/payment_intents", r.creator, run, func(w, n int) string {
			return fmt.Sprintf("amount=%d&currency=usd", 1000+(w*31+n)%5000)
		}),
	}
}

func create(ctx context.Context, o *options) error {
	return withRig(ctx, o, "", func(r *rig) error {
		heading(os.Stdout, "payment_intents.create (amount and currency given: no look-up)")
		_, _, err := shoot(os.Stdout, "create", r.creates(o, "c", connections), r.gateway, r.sandbox)
		return err
	})
}

// refund needs one look-up per call: the charge, for its currency and what is left of it.
func refund(ctx context.Context, o *options) error {
	return withRig(ctx, o, "", func(r *rig) error {
		var charges []string
		for _, c := range r.seeded.Customers {
			charges = append(charges, c.Charges...)
		}
		run := fmt.Sprint("r", time.Now().UnixMilli())
		heading(os.Stdout, "refunds.create (one look-up each)")
		_, _, err := shoot(os.Stdout, "refund", &volley{
			addr: r.gatewayAddr, workers: connections, warm: o.warm, last: o.last, status: 200,
			shot: post(r.gatewayAddr, "/v1/refunds", r.refunder, run, func(w, n int) string {
				return "amount=1&charge=" + charges[(w+n)%len(charges)]
			}),
		}, r.gateway, r.sandbox)
		return err
	})
}

// lone is one caller at a time: what a call costs beside its two commits and the upstream's own time.
func lone(ctx context.Context, o *options) error {
	return withRig(ctx, o, "", func(r *rig) error {
		heading(os.Stdout, "one lone caller")
		call, _, err := shoot(os.Stdout, "create through the gateway", r.creates(o, "l", 1), r.gateway, r.sandbox)
		if err != nil {
			return err
		}
		direct := r.creates(o, "d", 1)
		direct.addr = r.sandboxAddr
		direct.shot = post(r.sandboxAddr, "/v1/payment_intents", secret, "direct", func(int, int) string { return "amount=1000&currency=usd" })
		theirs, _, err := shoot(os.Stdout, "create at the sandbox itself", direct, r.sandbox)
		if err != nil {
			return err
		}
		commits, err := pairs(ctx, o, "", 1)
		if err != nil {
			return err
		}
		fmt.Printf("| two commits (admit, resolve) in a store alone | 1 | | %s | %s | %s | |\n", ms(commits.at(0.5)), ms(commits.at(0.99)), ms(commits.at(0.999)))
		fmt.Printf("\ncall - two commits = %s at the median, of which the sandbox %s\n", ms(call.at(0.5)-commits.at(0.5)), ms(theirs.at(0.5)))
		return nil
	})
}

// pairs admits and settles on one hot cap in a loop, each caller one after the other: the floor of a money
// call. dir is the store's folder; empty: a new one that goes away.
func pairs(ctx context.Context, o *options, dir string, callers int) (_ *result, err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "keybrake-bench-"); err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	}
	b, err := openBooks(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	up, err := b.upstream(ctx, "https://api.stripe.com")
	if err != nil {
		return nil, err
	}
	made, err := b.key(ctx, creatorPolicy, up)
	if err != nil {
		return nil, err
	}
	key, _ := b.admin.Ring.FindKey(made.ID)
	each := make([][]time.Duration, callers)
	failed := make([]error, callers)
	var wg sync.WaitGroup
	end := time.Now().Add(o.last)
	for c := range callers {
		wg.Go(func() {
			for time.Now().Before(end) && failed[c] == nil {
				begin := time.Now()
				failed[c] = pair(ctx, b.store, key)
				each[c] = append(each[c], time.Since(begin))
			}
		})
	}
	wg.Wait()
	r := &result{took: o.last, latencies: slices.Concat(each...)}
	slices.Sort(r.latencies)
	return r, errors.Join(failed...)
}

func pair(ctx context.Context, db store.DB, key *vault.Key) error {
	caps := []policy.Cap{storetest.DayCap("payment_intents", 1<<40)}
	a, err := db.Admit(ctx, storetest.Admission(key.ID, key.Version, caps, storetest.USD("payment_intents", 100)))
	if err != nil {
		return err
	}
	if a.Reservation == nil {
		return fmt.Errorf("not admitted: %v", a.Full)
	}
	_, err = db.Resolve(ctx, storetest.Settle(a.Reservation))
	return err
}

// way is one program between the load and the sandbox.
type way struct {
	process *process
	addr    string
	key     string
	cpu     []time.Duration
}

// reads compares what a governed, recorded read costs its process with what it costs programs that only
// forward.
func reads(ctx context.Context, o *options) error {
	return withRig(ctx, o, "", func(r *rig) error {
		ways := []*way{{process: r.gateway, addr: r.gatewayAddr, key: r.refunder}}
		for _, program := range []func(*options, *rig) (*way, error){startForwarder, startNginx, startCaddy} {
			w, err := program(o, r)
			if err != nil {
				return err
			}
			if w != nil {
				r.closers = append(r.closers, w.process.stop)
				ways = append(ways, w)
			}
		}
		heading(os.Stdout, "GET /v1/charges/{id}")
		path := "/v1/charges/" + r.seeded.Customers[0].Charges[0]
		governed := 0
		for range o.rounds {
			for _, w := range ways {
				result, s, err := shoot(os.Stdout, w.process.name, &volley{
					addr: w.addr, workers: connections, warm: o.warm / 2, last: o.last / 2, status: 200, shot: get(w.addr, path, w.key),
				}, w.process)
				if err != nil {
					return err
				}
				w.cpu = append(w.cpu, s.per(0, len(result.latencies)))
				if w == ways[0] {
					governed += len(result.latencies)
				}
			}
		}
		fmt.Print("\nCPU per read, median of the rounds:")
		for _, w := range ways {
			slices.Sort(w.cpu)
			fmt.Printf(" %s %d µs (%.2f x the bare forwarder);", w.process.name, w.cpu[len(w.cpu)/2].Microseconds(),
				float64(w.cpu[len(w.cpu)/2])/float64(ways[1].cpu[len(w.cpu)/2]))
		}
		records, err := r.height(ctx)
		if err != nil {
			return err
		}
		if records < int64(2*governed) {
			return fmt.Errorf("%d reads left only %d records", governed, records)
		}
		fmt.Printf("\n%d records for more than %d governed reads\n", records, governed)
		return nil
	})
}

func startForwarder(_ *options, r *rig) (*way, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return startProxy("forwarder", r, func(addr string) *exec.Cmd {
		return exec.Command(self, "forward", "-listen", addr, "-to", r.sandboxAddr)
	})
}

func startCaddy(o *options, r *rig) (*way, error) {
	if o.caddy == "" {
		return nil, nil
	}
	return startProxy("caddy", r, func(addr string) *exec.Cmd {
		return exec.Command(o.caddy, "-listen", addr, "-to", r.sandboxAddr)
	})
}

const nginxConfig = `
daemon off;
worker_processes 2;
pid %[1]s/nginx.pid;
error_log stderr error;
events { worker_connections 1024; }
http {
	access_log off;
	client_body_temp_path %[1]s/nginx-body;
	proxy_temp_path %[1]s/nginx-proxy;
	fastcgi_temp_path %[1]s/nginx-fastcgi;
	uwsgi_temp_path %[1]s/nginx-uwsgi;
	scgi_temp_path %[1]s/nginx-scgi;
	keepalive_requests 1000000000;
	upstream sandbox { server %[3]s; keepalive 512; keepalive_requests 1000000000; }
	server {
		listen %[2]s;
		location / {
			proxy_pass http://sandbox;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header Authorization "Bearer %[4]s";
		}
	}
}
`

func startNginx(_ *options, r *rig) (*way, error) {
	nginx, err := exec.LookPath("nginx")
	if errors.Is(err, exec.ErrNotFound) {
		fmt.Println("nginx is not installed and is left out (Debian: apt-get install nginx-light)")
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	config := filepath.Join(r.dir, "nginx.conf")
	return startProxy("nginx", r, func(addr string) *exec.Cmd {
		text := strings.TrimSpace(fmt.Sprintf(nginxConfig, r.dir, addr, r.sandboxAddr, secret)) + "\n"
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			return &exec.Cmd{Err: err} // Start returns it
		}
		return exec.Command(nginx, "-c", config, "-e", "stderr")
	})
}

func startProxy(name string, r *rig, command func(addr string) *exec.Cmd) (*way, error) {
	addr, err := freePort()
	if err != nil {
		return nil, err
	}
	cmd := command(addr)
	cmd.Env = append(os.Environ(), secretVariable+"="+secret)
	p, err := start(name, cmd)
	if err != nil {
		return nil, err
	}
	if err := p.accepts(addr); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return &way{process: p, addr: addr, key: "unused"}, nil
}
