package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/pflag"

	"github.com/keybrake/keybrake/internal/alert"
	"github.com/keybrake/keybrake/internal/cluster"
	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/secretstore"
)

// settings are what `serve` can be told. Each one comes from its flag, else from KEYBRAKE_<NAME>, else from
// the config file, else from its default; the config file's keys are the flags' names with underscores.
type settings struct {
	GatewayListen string `yaml:"gateway_listen"`
	AdminListen   string `yaml:"admin_listen"`
	Store         string `yaml:"store"`
	// StoreUnsafe serves a PostgreSQL that can forget what it has acknowledged.
	StoreUnsafe bool `yaml:"store_unsafe"`
	// Data is the folder of what is not in a store on PostgreSQL: the master key, the node's mark, archive files, the KILL file.
	Data string `yaml:"data"`
	// Node names this process among those that serve one store, and Lease is for how many milliseconds it may act without
	// hearing from the store.
	Node           string   `yaml:"node"`
	Lease          int      `yaml:"lease"`
	MasterKeyFile  string   `yaml:"master_key_file"`
	ReadyFile      string   `yaml:"ready_file"`
	TLSCert        string   `yaml:"tls_cert"`
	TLSKey         string   `yaml:"tls_key"`
	TrustedProxy   []string `yaml:"trusted_proxy"`
	AllowPlainHTTP bool     `yaml:"allow_plain_http"`
	// AdminHost are the names, beside addresses and localhost, under which the admin port may be called.
	AdminHost []string `yaml:"admin_host"`
	// ConsoleURL is where operators' browsers reach the console, if something in front changes that; empty: the listener's.
	ConsoleURL string `yaml:"console_url"`
	// OpenID is the provider through which operators can sign in. Only the config file has it.
	OpenID openIDSettings `yaml:"openid"`
	// ScopeDenialStatus is what an out-of-scope call gets: 401 as documented, or 403 as Stripe answers today.
	ScopeDenialStatus int `yaml:"scope_denial_status"`
	// LookupsPerSecond bounds the look-ups of one vault key, LookupsPerUpstream those of one upstream.
	LookupsPerSecond   float64 `yaml:"lookups_per_second"`
	LookupsPerUpstream float64 `yaml:"lookups_per_upstream"`
	// CallsPerKey bounds the calls of one vault key that speak with an upstream at once, CallsPerUpstream those to one
	// upstream.
	CallsPerKey      int `yaml:"calls_per_key"`
	CallsPerUpstream int `yaml:"calls_per_upstream"`
	// MaxConnections bounds the agents' connections; the longest idle one makes room for the next.
	MaxConnections int `yaml:"max_connections"`
	// StoreWait is how many seconds a call waits for the store, DrainTimeout how long those on the wire may finish.
	StoreWait    int `yaml:"store_wait"`
	DrainTimeout int `yaml:"drain_timeout"`
	// UpstreamDeadline is after how many seconds a call that the upstream does not answer is given up.
	UpstreamDeadline int `yaml:"upstream_deadline"`
	// ReconcilePerSecond bounds what is read at all upstreams together to learn what became of calls; 0: nothing, unless
	// an operator asks.
	ReconcilePerSecond float64 `yaml:"reconcile_per_second"`
	// AuditKeep is the age at which records move into archive files, like 90d; empty: never. AuditArchive is the folder of
	// these files; empty: the store's file with ".archive".
	AuditKeep    string `yaml:"audit_keep"`
	AuditArchive string `yaml:"audit_archive"`
	// MemoryLimit is the soft limit of the Go part of the process in megabytes; 0: it follows what is in use.
	MemoryLimit int    `yaml:"memory_limit"`
	LogFormat   string `yaml:"log_format"` // text or json
	LogLevel    string `yaml:"log_level"`  // debug, info, warn, error
	// LogCalls writes one line for each call into the log.
	LogCalls bool `yaml:"log_calls"`

	// Sinks and Sources are the secret stores of the command line; serve only looks whether they are well written. They are
	// in the config file alone.
	Sinks   []secretstore.Place `yaml:"sinks"`
	Sources []secretstore.Place `yaml:"sources"`
	// Alerts says of what people are told, and where. It is in the config file alone.
	Alerts alert.Config `yaml:"alerts"`
}

// maxUpstreamDeadline leaves five seconds of the SDKs' eighty for ourselves.
const maxUpstreamDeadline = 75

// maxStoreWait keeps what a call waits for in all, slot and look-ups included, far below the SDKs' eighty seconds.
const maxStoreWait = 30

func defaultSettings() settings {
	return settings{
		GatewayListen: "127.0.0.1:8787", AdminListen: "127.0.0.1:8788", Store: "sqlite:keybrake.db",
		Data: ".", Lease: int(cluster.DefaultLease.Milliseconds()),
		ScopeDenialStatus: 401, LookupsPerSecond: 25, LookupsPerUpstream: 80,
		CallsPerKey: 64, CallsPerUpstream: 512, MaxConnections: 4096, StoreWait: 5, DrainTimeout: 20, UpstreamDeadline: 70, ReconcilePerSecond: 2,
		LogFormat: "text", LogLevel: "info", LogCalls: true,
	}
}

// bind declares the flags of serve.
func (s *settings) bind(f *pflag.FlagSet) {
	f.StringVar(&s.GatewayListen, "gateway-listen", s.GatewayListen, "address for agents")
	f.StringVar(&s.AdminListen, "admin-listen", s.AdminListen, "address for operators")
	f.StringVar(&s.Store, "store", s.Store, "the store, sqlite:FILE or postgres://USER@HOST/DATABASE")
	f.BoolVar(&s.StoreUnsafe, "store-unsafe", s.StoreUnsafe, "serve a PostgreSQL that can forget what it has acknowledged")
	f.StringVar(&s.Data, "data", s.Data, "folder of what is not in a store on PostgreSQL: master key, mark, archive files, KILL file")
	f.StringVar(&s.Node, "node", s.Node, "name of this process among those that serve one store (default: the machine's name)")
	f.IntVar(&s.Lease, "lease", s.Lease, "milliseconds that a node may act without hearing from a store that others serve as well")
	f.StringVar(&s.MasterKeyFile, "master-key-file", s.MasterKeyFile, "file of the master key (default: the store's file + .key)")
	f.StringVar(&s.ReadyFile, "ready-file", s.ReadyFile, "write this file once all listeners accept")
	f.StringVar(&s.TLSCert, "tls-cert", s.TLSCert, "certificate file (PEM)")
	f.StringVar(&s.TLSKey, "tls-key", s.TLSKey, "private key file (PEM)")
	f.StringSliceVar(&s.TrustedProxy, "trusted-proxy", s.TrustedProxy, "network of proxies whose X-Forwarded-For is believed (CIDR)")
	f.StringSliceVar(&s.AdminHost, "admin-host", s.AdminHost, "name under which operators call the admin port")
	f.StringVar(&s.ConsoleURL, "console-url", s.ConsoleURL, "address at which operators' browsers reach the console, like https://keybrake.example.com (default: the listener's)")
	f.BoolVar(&s.AllowPlainHTTP, "allow-plain-http", s.AllowPlainHTTP, "serve beyond loopback without TLS")
	f.IntVar(&s.ScopeDenialStatus, "scope-denial-status", s.ScopeDenialStatus, "status of out-of-scope denials, 401 or 403")
	f.Float64Var(&s.LookupsPerSecond, "lookups-per-second", s.LookupsPerSecond, "look-ups at the upstream for one vault key")
	f.Float64Var(&s.LookupsPerUpstream, "lookups-per-upstream", s.LookupsPerUpstream, "look-ups at one upstream for all keys")
	f.IntVar(&s.CallsPerKey, "calls-per-key", s.CallsPerKey, "calls of one vault key that speak with its upstream at once")
	f.IntVar(&s.CallsPerUpstream, "calls-per-upstream", s.CallsPerUpstream, "calls that speak with one upstream at once")
	f.IntVar(&s.MaxConnections, "max-connections", s.MaxConnections, "agents' connections; the longest idle one makes room for the next")
	f.IntVar(&s.StoreWait, "store-wait", s.StoreWait, "seconds that a call waits for the store before it is turned away")
	f.IntVar(&s.DrainTimeout, "drain-timeout", s.DrainTimeout, "seconds that calls on the wire may take to finish when the server is told to stop")
	f.IntVar(&s.UpstreamDeadline, "upstream-deadline", s.UpstreamDeadline, "seconds after which a call that is not answered is given up; SDKs wait for 80")
	f.Float64Var(&s.ReconcilePerSecond, "reconcile-per-second", s.ReconcilePerSecond, "reads at all upstreams together that learn what became of calls; 0: only when told to")
	f.StringVar(&s.AuditKeep, "audit-keep", s.AuditKeep, "age at which audit records move from the store into archive files, like 90d (default: never)")
	f.StringVar(&s.AuditArchive, "audit-archive", s.AuditArchive, "folder of the archive files (default: the store's file + .archive)")
	f.IntVar(&s.MemoryLimit, "memory-limit", s.MemoryLimit, "megabytes above which memory is given back sooner, at the cost of CPU (default: by what is in use)")
	f.StringVar(&s.LogFormat, "log-format", s.LogFormat, "text or json")
	f.BoolVar(&s.LogCalls, "log-calls", s.LogCalls, "one line in the log for each call")
	f.StringVar(&s.LogLevel, "log-level", s.LogLevel, "debug, info, warn or error")
}

// load fills in what no flag set: first the config file, over it the environment.
func (s *settings) load(f *pflag.FlagSet, configFile string, getenv func(string) string) error {
	flagged := *s
	*s = defaultSettings()
	if configFile != "" {
		if err := s.readFile(configFile); err != nil {
			return err
		}
	}
	if err := s.readEnv(getenv); err != nil {
		return err
	}
	to, from := reflect.ValueOf(s).Elem(), reflect.ValueOf(flagged)
	for i := range to.NumField() {
		name := strings.ReplaceAll(to.Type().Field(i).Tag.Get("yaml"), "_", "-")
		if f.Changed(name) {
			to.Field(i).Set(from.Field(i))
		}
	}
	return s.check()
}

// readFile reads the strict YAML config: a key that is not known is an error with its place.
func (s *settings) readFile(name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read the config file: %w", err)
	}
	if err := yaml.UnmarshalWithOptions(text, s, yaml.Strict()); err != nil {
		return fmt.Errorf("config file %s:\n%s", name, yaml.FormatError(err, false, true))
	}
	return nil
}

func (s *settings) readEnv(getenv func(string) string) error {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		name := "KEYBRAKE_" + strings.ToUpper(v.Type().Field(i).Tag.Get("yaml"))
		text := getenv(name)
		if text == "" {
			continue
		}
		if kind := v.Field(i).Type(); kind.Kind() == reflect.Slice && kind.Elem().Kind() != reflect.String {
			return fmt.Errorf("%s: write it into the config file", name)
		}
		var err error
		switch field := v.Field(i); field.Kind() {
		case reflect.Struct:
			err = errors.New("only the config file has this")
		case reflect.String:
			field.SetString(text)
		case reflect.Slice:
			field.Set(reflect.ValueOf(strings.Split(text, ",")))
		case reflect.Bool:
			var b bool
			b, err = strconv.ParseBool(text)
			field.SetBool(b)
		case reflect.Int:
			var n int64
			n, err = strconv.ParseInt(text, 10, 64)
			field.SetInt(n)
		case reflect.Float64:
			var n float64
			n, err = strconv.ParseFloat(text, 64)
			field.SetFloat(n)
		}
		if err != nil {
			return fmt.Errorf("%s=%q: %w", name, text, err)
		}
	}
	return nil
}

// reach is from where a listener is reached; zero: from nowhere.
type reach int

const (
	nowhere reach = iota // its address is none
	here                 // this machine alone
	barely               // from elsewhere, without TLS
	safely               // from elsewhere, with TLS
)

// listener is one of the two ports as it is set.
type listener struct {
	what, flag, addr string
	reach            reach
}

// What to do about a listener.
const (
	writeAddress = "write HOST:PORT"
	giveTLS      = "give --tls-cert and --tls-key, or --allow-plain-http if something in front does TLS"
)

// listeners are the two ports, with from where each is reached.
func (s *settings) listeners() []listener {
	out := []listener{{what: "agents", flag: "--gateway-listen", addr: s.GatewayListen}, {what: "operators", flag: "--admin-listen", addr: s.AdminListen}}
	for i := range out {
		host, _, err := net.SplitHostPort(out[i].addr)
		switch {
		case err != nil:
		case loopback(host):
			out[i].reach = here
		case s.TLSCert == "":
			out[i].reach = barely
		default:
			out[i].reach = safely
		}
	}
	return out
}

// check refuses what would be unsafe or cannot work, before anything is opened.
func (s *settings) check() error {
	if (s.TLSCert == "") != (s.TLSKey == "") {
		return errors.New("--tls-cert and --tls-key go together")
	}
	if s.ScopeDenialStatus != 401 && s.ScopeDenialStatus != 403 {
		return fmt.Errorf("--scope-denial-status %d: write 401 or 403", s.ScopeDenialStatus)
	}
	if s.LookupsPerSecond <= 0 || s.LookupsPerUpstream <= 0 {
		return errors.New("--lookups-per-second and --lookups-per-upstream must be greater than zero")
	}
	if s.CallsPerKey < 1 || s.CallsPerUpstream < 1 {
		return errors.New("--calls-per-key and --calls-per-upstream must be greater than zero")
	}
	if s.MaxConnections < 1 {
		return fmt.Errorf("--max-connections %d: write how many connections agents may have together", s.MaxConnections)
	}
	if s.StoreWait < 1 || s.StoreWait > maxStoreWait {
		return fmt.Errorf("--store-wait %d: write 1 to %d seconds", s.StoreWait, maxStoreWait)
	}
	if s.DrainTimeout < 0 {
		return fmt.Errorf("--drain-timeout %d: write seconds, or 0 to wait for nothing", s.DrainTimeout)
	}
	if s.UpstreamDeadline < 1 || s.UpstreamDeadline > maxUpstreamDeadline {
		return fmt.Errorf("--upstream-deadline %d: write 1 to %d seconds, or agents give up before they are told the outcome", s.UpstreamDeadline, maxUpstreamDeadline)
	}
	if s.ReconcilePerSecond < 0 {
		return fmt.Errorf("--reconcile-per-second %v: write a rate, or 0 to ask only when told to", s.ReconcilePerSecond)
	}
	if _, err := s.auditKeep(); err != nil {
		return err
	}
	if s.MemoryLimit < 0 {
		return fmt.Errorf("--memory-limit %d: write megabytes, or 0", s.MemoryLimit)
	}
	for _, l := range s.listeners() {
		switch {
		case l.reach == nowhere:
			return fmt.Errorf("%s %q: %s", l.flag, l.addr, writeAddress)
		case l.reach == barely && !s.AllowPlainHTTP:
			return fmt.Errorf("%s %s is reachable from other machines without TLS; %s", l.flag, l.addr, giveTLS)
		}
	}
	if err := s.Alerts.Check(); err != nil {
		return err
	}
	if err := secretstore.Check(s.Sinks, s.Sources); err != nil {
		return err
	}
	if _, err := s.proxies(); err != nil {
		return err
	}
	if err := s.checkSignIn(); err != nil {
		return err
	}
	if least, most := cluster.MinLease.Milliseconds(), cluster.MaxLease.Milliseconds(); int64(s.Lease) < least || int64(s.Lease) > most {
		return fmt.Errorf("--lease %d: write %d to %d milliseconds", s.Lease, least, most)
	}
	_, err := s.place()
	return err
}

func (s *settings) proxies() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range s.TrustedProxy {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("--trusted-proxy %q: write a network like 10.0.0.0/8", text)
		}
		out = append(out, p)
	}
	return out, nil
}

// leastAuditKeep is the youngest age at which records may move: what an operator looks for most is of the last day.
const leastAuditKeep = 24 * time.Hour

// auditKeep is how long records stay in the store; 0: for ever.
func (s *settings) auditKeep() (time.Duration, error) {
	if s.AuditKeep == "" {
		return 0, nil
	}
	keep, err := policy.ParseSpan(s.AuditKeep)
	if err != nil {
		return 0, fmt.Errorf("--audit-keep: %w", err)
	}
	if keep < leastAuditKeep {
		return 0, fmt.Errorf("--audit-keep %s: write at least 1d", s.AuditKeep)
	}
	return keep, nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
