package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/cluster"
	"github.com/keybrake/keybrake/internal/gateway"
	"github.com/keybrake/keybrake/internal/gateway/wire"
	"github.com/keybrake/keybrake/internal/observe"
	"github.com/keybrake/keybrake/internal/reconcile"
	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/upstream"
	"github.com/keybrake/keybrake/internal/upstream/stripe"
	"github.com/keybrake/keybrake/internal/vault"
)

// Limits of the listeners, each with its reason.
const (
	headTimeout  = 10 * time.Second // a client that sends its head slower than this is not an SDK
	readTimeout  = 30 * time.Second // head and body
	writeTimeout = 90 * time.Second // above the upstream's deadline: the agent gets its answer
	idleTimeout  = 2 * time.Minute
	// giveUpTimeout is how long what was given up may take to be written down and answered when the server stops.
	giveUpTimeout = 5 * time.Second
	// operatorConnections is apart from the agents': a stop gets in, whatever they do.
	operatorConnections = 512
	// signEvery bounds how much of the record a thief of the store could rewrite unseen.
	signEvery = time.Second
)

// server is a running Keybrake: everything that serve opens and has to close again, in order.
type server struct {
	settings settings
	dev      bool
	log      *slog.Logger
	streams  streams

	master  *vault.Master
	store   engine
	shared  *postgres.DB // the store, if several processes can serve it; else nil
	member  *cluster.Member
	backup  func(ctx context.Context, path string) (seq int64, err error) // nil: the store has its own ways
	adapter *stripe.Adapter
	ring    *vault.Ring
	client  *upstream.Client
	admin   *admin.Service
	gateway *gateway.Gateway
	metrics *observe.Metrics
	// reconciler asks what became of calls whose answer never came.
	reconciler reconciler
	demo       *demo // with --dev
	place      place
	// agentsURL and operatorsURL are where people reach the listeners; set before operators' pages are served.
	agentsURL, operatorsURL string

	closers []func() error // last opened, first closed
}

func newServe(s streams) *cobra.Command {
	o := defaultSettings()
	var dev bool
	var config string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the gateway",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.load(cmd.Flags(), firstOf(config, os.Getenv("KEYBRAKE_CONFIG")), os.Getenv); err != nil {
				return usageError{err}
			}
			srv := &server{settings: o, dev: dev, streams: s, log: newLogger(o, s.err)}
			return srv.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&dev, "dev", false, "a temporary store, the sandbox as upstream, two ready keys")
	cmd.Flags().StringVar(&config, "config", "", "config file (YAML)")
	o.bind(cmd.Flags())
	return cmd
}

func newLogger(o settings, w interface{ Write([]byte) (int, error) }) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.LogLevel)); err != nil {
		level = slog.LevelInfo
	}
	opts := &slog.HandlerOptions{Level: level}
	if o.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// run opens everything, serves until ctx ends, and closes everything.
func (s *server) run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.open(ctx); err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	s.watch(context.WithoutCancel(ctx)) // until after the last call: a stop must work while calls drain
	addrs, err := s.listen(stop)
	if err != nil {
		return err
	}
	if err := s.announce(ctx, addrs); err != nil {
		return err
	}
	s.tellPeople(ctx)
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// open brings up everything below the listeners.
func (s *server) open(ctx context.Context) (err error) {
	if err := s.places(ctx); err != nil {
		return err
	}
	if s.adapter, err = stripe.New(); err != nil {
		return err
	}
	s.openMetrics()
	if err := s.openStore(ctx); err != nil {
		return err
	}
	s.closers = append(s.closers, s.store.Close, s.signLast)
	s.ring = vault.NewRing(s.master)
	s.ring.PinBeside(stripe.Hosts)
	s.client = upstream.NewClient(nil)
	s.closers = append(s.closers, func() error { s.client.Close(); return nil })
	asking := reconciler{ring: s.ring, Reconciler: reconcile.New(reconcile.Config{
		Vendor: s.adapter, Ring: s.ring, Store: s.store, Client: s.client, Log: s.log, PerSecond: s.settings.ReconcilePerSecond, Deadline: s.deadline(),
	})}
	s.reconciler = asking
	openID, err := s.openID()
	if err != nil {
		return err
	}
	s.admin = admin.New(admin.Config{
		Store: s.store, Ring: s.ring, Vocabulary: s.adapter.Catalog().Vocabulary(),
		Prober: prober{s.client}, Needs: stripeNeeds, Account: stripeAccount, BaseURL: stripeURL, Version: stripe.DefaultVersion,
		Restricted: restrictedKeys(s.adapter.Catalog()), Scopes: permissionMap(s.adapter.Catalog()),
		Probes: s.adapter.Catalog().Probes(), Agents: func() http.Handler { return s.gateway },
		Statements: &reconcile.Statements{
			Store: s.store, Ring: s.ring, Client: s.client, Books: s.adapter, Version: stripe.DefaultVersion,
		},
		Backup: s.backup, BackupFolder: filepath.Dir(s.place.base), Safety: s.store.Safety,
		KillFile: s.place.killFile(), Hosts: s.settings.operatorsHosts(), OpenID: openID, ConsoleURL: s.settings.ConsoleURL, Log: s.log,
		Ready:      func(ctx context.Context) error { return s.gateway.Ready(ctx) },
		Reconciler: asking, Metrics: s.metrics.Handler(s.log), Alerter: s.openAlerts(),
	})
	s.closers = append(s.closers, func() error { s.admin.Close(); return nil })
	proxies, err := s.settings.proxies()
	if err != nil {
		return err
	}
	s.gateway = gateway.New(gateway.Config{
		Adapter: s.adapter, Ring: s.ring, Store: s.store, Client: s.client, Rates: s.admin.Rates, Log: s.log,
		ScopeStatus: s.settings.ScopeDenialStatus, TrustedProxies: proxies,
		LookupsPerSecond: s.settings.LookupsPerSecond, LookupsPerUpstream: s.settings.LookupsPerUpstream,
		Webhook: asking.message, Deadline: s.deadline(),
		CallsPerKey: s.settings.CallsPerKey, CallsPerUpstream: s.settings.CallsPerUpstream, StoreWait: s.storeWait(),
		Ended: s.tellCalls(),
	})
	s.closers = append(s.closers, func() error { s.gateway.Close(); return nil })
	s.watchMetrics()
	loaded, err := s.admin.Load(ctx)
	if err != nil {
		return err
	}
	for _, p := range loaded.Problems {
		s.log.Error("loaded with a problem", "problem", p)
	}
	if err := s.join(ctx); err != nil {
		return err
	}
	if s.dev {
		return s.openDemo(ctx)
	}
	return nil
}

// places finds (or with --dev makes) the store's place and the master key.
func (s *server) places(ctx context.Context) (err error) {
	if !s.dev {
		if s.place, err = s.settings.place(); err != nil {
			return err
		}
		return s.openMaster(ctx)
	}
	dir, err := os.MkdirTemp("", "keybrake-dev-")
	if err != nil {
		return fmt.Errorf("make a temporary store: %w", err)
	}
	s.closers = append(s.closers, func() error { return os.RemoveAll(dir) })
	s.place = place{base: filepath.Join(dir, "keybrake.db")}
	s.master, err = vault.EphemeralMaster()
	return err
}

func exists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() > 0
}

// listen opens both listeners and serves them. fail ends the server if one breaks.
func (s *server) listen(fail context.CancelCauseFunc) (addrs addresses, err error) {
	tlsConfig, err := s.tls()
	if err != nil {
		return addresses{}, err
	}
	pages, err := s.operatorsHandler()
	if err != nil {
		return addresses{}, err
	}
	agents, err := net.Listen("tcp", s.settings.GatewayListen)
	if err != nil {
		return addresses{}, fmt.Errorf("listen for agents: %w", err)
	}
	operators, err := net.Listen("tcp", s.settings.AdminListen)
	if err != nil {
		return addresses{}, errors.Join(fmt.Errorf("listen for operators: %w", err), agents.Close())
	}
	scheme := "http://"
	guarded := agents
	if tlsConfig != nil {
		scheme = "https://"
		guarded, operators = tls.NewListener(agents, tlsConfig), tls.NewListener(operators, tlsConfig)
	}
	guarded = wire.Listen(guarded, wire.Limits{OnRefused: func(from net.Addr, why wire.Reason) string {
		return s.gateway.Refused(from, string(why))
	}})
	// The gateway closes first and waits for what is on the wire; operators can stop things until the end.
	// Their tails and exports take as long as they take.
	s.agentsURL, s.operatorsURL = scheme+openable(agents.Addr()), scheme+openable(operators.Addr())
	s.serve(newCrowd(operators, operatorConnections), pages, 0, s.finishOperators, fail)
	s.serve(newCrowd(guarded, s.settings.MaxConnections), s.gateway, writeTimeout, s.finishAgents, fail)
	return addresses{
		Gateway: scheme + agents.Addr().String(), Admin: scheme + operators.Addr().String(),
	}, nil
}

// openable is an address under which somebody on this machine reaches a listener: one on all addresses names none that a
// browser or an agent could open.
func openable(listener net.Addr) string {
	at, err := netip.ParseAddrPort(listener.String())
	if err != nil || !at.Addr().IsUnspecified() {
		return listener.String()
	}
	return net.JoinHostPort("localhost", strconv.Itoa(int(at.Port())))
}

func (s *server) tls() (*tls.Config, error) {
	if s.settings.TLSCert == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(s.settings.TLSCert, s.settings.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("read --tls-cert and --tls-key: %w", err)
	}
	// HTTP/1.1 only: the wire guard reads HTTP/1.1, and one protocol has one reading.
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}, nil
}

// serve runs one listener until close, which ends it with finish.
func (s *server) serve(l *crowd, h http.Handler, write time.Duration, finish func(*http.Server), fail context.CancelCauseFunc) {
	base, end := context.WithCancel(context.Background())
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: headTimeout, ReadTimeout: readTimeout, WriteTimeout: write, IdleTimeout: idleTimeout,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return base },
		ConnState:   l.noticed,
		// net/http would answer `OPTIONS *` by itself, past everything that records.
		DisableGeneralOptionsHandler: true,
	}
	srv.RegisterOnShutdown(end) // tails end; a call that was admitted no longer depends on it
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			fail(fmt.Errorf("serve %s: %w", l.Addr(), err))
		}
	}()
	s.closers = append(s.closers, func() error {
		finish(srv)
		<-done
		return nil
	})
}

// finishAgents ends the agents' listener: readiness goes red, nobody new gets a way to an upstream, and those that have
// one may finish. What has no answer at the end of the time is given up: its agent is told that its outcome is
// unknown, and what it holds stays held.
func (s *server) finishAgents(srv *http.Server) {
	s.gateway.Drain()
	if shutdown(srv, time.Duration(s.settings.DrainTimeout)*time.Second) {
		return
	}
	s.log.Warn("calls on the wire are given up; what they hold stays held", "calls", s.ring.InFlight(vault.All), "after_seconds", s.settings.DrainTimeout)
	s.gateway.GiveUp()
	if !shutdown(srv, giveUpTimeout) {
		s.log.Error("calls did not end in time; what they hold stays held")
		_ = srv.Close() // there is nothing left to lose
	}
}

// finishOperators ends the operators' listener: after the agents', so that they can stop things until the end.
func (s *server) finishOperators(srv *http.Server) {
	if !shutdown(srv, giveUpTimeout) {
		s.log.Warn("exports or other long answers to operators were cut off")
		_ = srv.Close() // a cut answer does not look like a whole one
	}
}

// shutdown lets a listener's requests finish and reports whether they did in time.
func shutdown(srv *http.Server, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return srv.Shutdown(ctx) == nil
}

// watch runs what goes on beside the calls: asking what became of calls, signed heads, archives, the
// KILL file, SIGUSR1, the memory limit.
func (s *server) watch(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	stopAll := make(chan os.Signal, 1)
	signal.Notify(stopAll, syscall.SIGUSR1)
	var watchers sync.WaitGroup
	watches := []func(context.Context){
		func(ctx context.Context) { limitMemory(ctx, s.settings.MemoryLimit) },
		func(ctx context.Context) { s.admin.WatchKillFile(ctx, s.admin.KillFile) },
		func(ctx context.Context) { s.stopOnSignal(ctx, stopAll) },
		s.whileLeading(s.forAll),
	}
	if s.member != nil {
		watches = append(watches, s.member.Run)
	}
	for _, watch := range watches {
		watchers.Go(func() { watch(ctx) })
	}
	s.closers = append(s.closers, func() error {
		signal.Stop(stopAll)
		cancel()
		watchers.Wait()
		return nil
	})
}

// tellPeople looks for what is wrong until the server is told to stop: what a stop does is no trouble.
func (s *server) tellPeople(ctx context.Context) {
	var telling sync.WaitGroup
	telling.Go(func() { s.whileLeading(s.admin.Alerter.Run)(ctx) })
	s.closers = append(s.closers, func() error { telling.Wait(); return nil })
}

// deadline is when a call that the upstream does not answer is given up.
func (s *server) deadline() time.Duration {
	return time.Duration(s.settings.UpstreamDeadline) * time.Second
}

// storeWait is how long a call waits for the store.
func (s *server) storeWait() time.Duration {
	return time.Duration(s.settings.StoreWait) * time.Second
}

// reconcile asks what became of calls, unless that is left to operators.
func (s *server) reconcile(ctx context.Context) {
	if s.settings.ReconcilePerSecond > 0 {
		s.reconciler.Run(ctx)
	}
}

// signHeads signs the head of the record, every second.
func (s *server) signHeads(ctx context.Context) {
	tick := time.NewTicker(signEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := s.store.SignHead(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("the record's head could not be signed", "err", err)
			}
		}
	}
}

// stopOnSignal stops everything at each signal.
func (s *server) stopOnSignal(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			if _, err := s.admin.StopAll(ctx, "SIGUSR1"); err != nil {
				s.log.Error("everything is stopped, but that could not be written", "err", err)
			} else {
				s.log.Warn("everything is stopped by SIGUSR1")
			}
		}
	}
}

// signLast signs what came after the last tick.
func (s *server) signLast() error {
	ctx, cancel := context.WithTimeout(context.Background(), giveUpTimeout)
	defer cancel()
	return s.store.SignHead(ctx)
}

func (s *server) close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	return errors.Join(errs...)
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
