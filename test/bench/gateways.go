package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/keybrake/keybrake/internal/admin"
)

// gateways measures two gateways on one PostgreSQL over HTTP: creates through both at once, all on one hot cap.
func gateways(ctx context.Context, o *options) (err error) {
	server, err := database(o)
	if err != nil {
		return err
	}
	defer server.End()
	var all []*rig
	defer func() {
		for _, r := range slices.Backward(all) {
			err = errors.Join(err, r.close())
		}
	}()
	for i := range nodeCount {
		r := &rig{}
		all = append(all, r)
		if r.dir, err = os.MkdirTemp("", "keybrake-bench-"); err != nil {
			return err
		}
		r.closers = append(r.closers, func() error { return os.RemoveAll(r.dir) })
		if i == 0 {
			if err := r.startSandbox(o); err != nil {
				return err
			}
		}
		r.serve = []string{
			"--store", server.URL("postgres"), "--data", r.dir, "--node", fmt.Sprint("gateway-", i+1),
			"--master-key-file", filepath.Join(all[0].dir, "master.key"),
		}
		if err := r.startGateway(o); err != nil {
			return err
		}
		if i == 0 {
			if err := r.makeCreator(ctx); err != nil {
				return err
			}
		}
		r.creator = all[0].creator
	}
	fmt.Printf("\n%d gateways on one PostgreSQL, %d connections each, one hot cap\n", nodeCount, connections)
	fmt.Print("\n| what | round | answers/s together | p50 | p99 | p99.9 | CPU per answer | load |\n|---|---|---|---|---|---|---|---|\n")
	for round := range o.rounds {
		if err := shootAll(o, all, round); err != nil {
			return err
		}
	}
	return nil
}

// makeCreator adds the upstream and a key through a running gateway.
func (r *rig) makeCreator(ctx context.Context) error {
	if _, err := r.admin.AddUpstream(ctx, admin.UpstreamRequest{Name: "bench", Secret: secret, BaseURL: "http://" + r.sandboxAddr}); err != nil {
		return err
	}
	made, err := r.admin.CreateKey(ctx, admin.KeyRequest{
		PolicyEdit: admin.PolicyEdit{Policy: fmt.Sprintf(creatorPolicy, 1, "bench"), PolicyFile: "bench.yaml"},
	})
	r.creator = made.Key
	return err
}

// shootAll fires a volley at each gateway, all at the same time.
func shootAll(o *options, all []*rig, round int) error {
	results, failed := make([]*result, len(all)), make([]error, len(all))
	s := &spent{processes: []*process{all[0].sandbox}}
	for _, r := range all {
		s.processes = append(s.processes, r.gateway)
	}
	var volleys sync.WaitGroup
	for i, r := range all {
		v := r.creates(o, fmt.Sprintf("g%d-%d-", i, round), connections)
		look := func() {}
		if i == 0 {
			look = s.look
		}
		volleys.Go(func() { results[i], failed[i] = v.fire(look) })
	}
	volleys.Wait()
	if err := errors.Join(errors.Join(failed...), s.err); err != nil {
		return err
	}
	sum := &result{took: o.last}
	for _, r := range results {
		sum.latencies = append(sum.latencies, r.latencies...)
	}
	slices.Sort(sum.latencies)
	row := fmt.Sprintf("| create | %d | %.0f | %s | %s | %s |", round+1, sum.rate(), ms(sum.at(0.5)), ms(sum.at(0.99)), ms(sum.at(0.999)))
	for i, p := range s.processes {
		row += fmt.Sprintf(" %s %d µs", p.name, s.per(i, len(sum.latencies)).Microseconds())
	}
	fmt.Println(row, "|", load(), "|")
	return nil
}
