package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/admin"
	"github.com/keybrake/keybrake/internal/upstream"
)

// level is how bad a finding is.
type level string

const (
	fine    level = "ok"
	warning level = "warn"
	failure level = "fail"
	left    level = "skip" // not looked at, and why
)

// finding is what the doctor says of one thing.
type finding struct {
	Check string `json:"check"`
	Level level  `json:"level"`
	Found string `json:"found"`
	// Do is what to do about it; empty where nothing is to be done.
	Do string `json:"do,omitempty"`
}

// examination is what the doctor answers.
type examination struct {
	At       time.Time `json:"at"`
	Failures int       `json:"failures"`
	Warnings int       `json:"warnings"`
	Findings []finding `json:"findings"`
}

// doctor looks at one installation. What it opens it only reads.
type doctor struct {
	settings   settings
	configFile string
	// server is the one that runs, if one was found.
	server *connection
	now    time.Time
	bar    *bar
	rate   int // of tries at a vendor per second; 0: the usual
	out    examination
}

func (d *doctor) say(check string, l level, found, do string) {
	switch l {
	case failure:
		d.out.Failures++
	case warning:
		d.out.Warnings++
	}
	d.out.Findings = append(d.out.Findings, finding{check, l, found, do})
}

func newDoctor(s streams) *cobra.Command {
	d := &doctor{settings: defaultSettings()}
	deep := false
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what is wrong with this installation, and say what to do",
		Long: "Looks at the settings as `keybrake serve` would read them (the same flags, environment and config file), the modes of\n" +
			"files, the store, the disk, the clock, TLS and the listen addresses; and if a server of this user runs, how it is. With\n" +
			"--permissions also what each upstream's restricted key opens at the vendor beyond what its vault keys need, which takes\n" +
			"minutes and calls that have no effect. Nothing is changed.\n\n" +
			"Exit 1 if anything is wrong; a warning alone is exit 0.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.now, d.bar = time.Now(), s.bar()
			d.examine(cmd, deep)
			d.bar.end()
			d.out.At = d.now.UTC()
			if err := s.print(*outputOf(cmd), d.out, d.tell); err != nil {
				return err
			}
			if d.out.Failures > 0 {
				return fmt.Errorf("%d things are wrong", d.out.Failures)
			}
			return nil
		},
	}
	d.settings.bind(cmd.Flags())
	cmd.Flags().StringVar(&d.configFile, "config", "", "config file (YAML)")
	cmd.Flags().BoolVar(&deep, "permissions", false, "try what each upstream's restricted key opens")
	cmd.Flags().IntVar(&d.rate, "rate", 0, "tries per second that may reach the upstream (default 10)")
	outputFlag(cmd)
	return cmd
}

// examine does every check, whatever the ones before it found.
func (d *doctor) examine(cmd *cobra.Command, deep bool) {
	ctx := cmd.Context()
	if d.configFile == "" {
		d.configFile = os.Getenv("KEYBRAKE_CONFIG")
	}
	if err := d.settings.load(cmd.Flags(), d.configFile, os.Getenv); err != nil {
		d.say("settings", failure, err.Error(), "`keybrake serve` does not start with them; correct what is named")
	} else {
		d.say("settings", fine, "they can be read, and are safe", "")
	}
	d.findServer(ctx)
	d.checkListeners()
	d.checkTLS()
	d.checkFiles()
	d.checkStore(ctx)
	d.checkDisk()
	d.checkClock(ctx)
	d.checkPermissions(ctx, deep)
}

// findServer asks the server of this user, if there is one, how it is.
func (d *doctor) findServer(ctx context.Context) {
	conn, err := connect()
	if err == nil {
		err = admin.Health(ctx, conn.admin, "/healthz")
	}
	if err != nil {
		d.say("server", left, "no server was found: "+err.Error(), "start it with `keybrake serve`, or set KEYBRAKE_ADMIN_URL and KEYBRAKE_ADMIN_TOKEN; what needs one is left out below")
		return
	}
	d.server = &conn
	switch err := admin.Health(ctx, conn.admin, "/readyz"); {
	case err == nil:
		d.say("server", fine, conn.admin+" takes calls", "")
	default:
		d.say("server", failure, conn.admin+" takes no money calls: "+err.Error(), "what it names must be mended; calls are refused until then, and nothing is lost")
	}
}

// checkClock holds this machine's clock against what the vendors' answers say.
func (d *doctor) checkClock(ctx context.Context) {
	hosts := []string{stripeURL}
	if d.server != nil {
		if list, err := d.server.client.Upstreams(ctx); err == nil && len(list.Items) > 0 {
			hosts = nil
			for _, u := range list.Items {
				hosts = append(hosts, u.BaseURL)
			}
		}
	}
	d.clockAt(ctx, hosts)
}

func (d *doctor) clockAt(ctx context.Context, hosts []string) {
	seen := map[string]bool{}
	for _, host := range hosts {
		if seen[host] {
			continue
		}
		seen[host] = true
		off, err := clockOff(ctx, host)
		switch {
		case err != nil:
			d.say("clock", warning, host+" could not be asked for the time: "+err.Error(), "calls cannot reach it either; look at the network, DNS and proxies of this machine")
		case off.Abs() > time.Minute:
			d.say("clock", failure, fmt.Sprintf("this machine's clock is %s from %s's", off.Abs().Round(time.Second), host), "set it (chrony, systemd-timesyncd): caps per day turn at the wrong moment, and signed messages are refused")
		case off.Abs() > 5*time.Second:
			d.say("clock", warning, fmt.Sprintf("this machine's clock is %s from %s's", off.Abs().Round(time.Second), host), "let chrony or systemd-timesyncd keep it")
		default:
			d.say("clock", fine, "agrees with "+host, "")
		}
	}
}

// clockOff is how far this machine's clock is from a server's, which tells whole seconds.
func clockOff(ctx context.Context, base string) (time.Duration, error) {
	there, took, err := upstream.ServerTime(ctx, base)
	if err != nil {
		return 0, err
	}
	off := time.Now().Add(-took / 2).Sub(there)
	if off > 0 && off < time.Second {
		off = 0 // within the second that was cut off
	}
	return off, nil
}

// checkPermissions compares what the upstreams' secrets open with what is needed.
func (d *doctor) checkPermissions(ctx context.Context, deep bool) {
	const check = "permissions"
	switch {
	case d.server == nil:
		d.say(check, left, "needs a server", "")
		return
	case !deep:
		d.say(check, left, "not tried", "`keybrake doctor --permissions`, or `keybrake verify --upstream NAME`")
		return
	}
	list, err := d.server.client.Upstreams(ctx)
	if err != nil {
		d.say(check, failure, "the upstreams cannot be listed: "+err.Error(), "")
		return
	}
	for _, u := range list.Items {
		r, err := d.server.client.VerifyUpstream(ctx, u.Name, admin.VerifyOptions{Rate: d.rate}, d.bar.show)
		if err != nil {
			d.say(check, failure, u.Name+" could not be tried: "+err.Error(), "")
			continue
		}
		for _, p := range r.TooWide {
			d.say(check, warning, fmt.Sprintf("%s may %s %s and nobody needs it", u.Name, p.Access, p.Resource), "untick "+firstOf(p.Permission, p.Resource)+" on the restricted key")
		}
		for _, p := range r.Missing {
			d.say(check, failure, fmt.Sprintf("%s may not %s %s, which is needed", u.Name, p.Access, p.Resource), "tick "+firstOf(p.Permission, p.Resource)+" on the restricted key")
		}
		if len(r.TooWide)+len(r.Missing) == 0 {
			d.say(check, fine, fmt.Sprintf("%s opens what is needed and no more, by %d tries", u.Name, r.Tried), "")
		}
	}
}

// tell writes the findings for people.
func (d *doctor) tell(w io.Writer) {
	for _, f := range d.out.Findings {
		fmt.Fprintf(w, "%-5s %-12s %s\n", f.Level, f.Check, f.Found)
		if f.Do != "" {
			fmt.Fprintf(w, "%-5s %-12s -> %s\n", "", "", f.Do)
		}
	}
	fmt.Fprintf(w, "\n%d wrong, %d to look at\n", d.out.Failures, d.out.Warnings)
}
