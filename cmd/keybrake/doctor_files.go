package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/keybrake/keybrake/internal/store/postgres"
	"github.com/keybrake/keybrake/internal/store/sqlite"
)

// checkListeners says who can reach the two ports.
func (d *doctor) checkListeners() {
	const check = "listen"
	for _, l := range d.settings.listeners() {
		switch {
		case l.reach == nowhere:
			d.say(check, failure, fmt.Sprintf("%q for %s is no address", l.addr, l.what), writeAddress)
		case l.reach == here:
			d.say(check, fine, fmt.Sprintf("%s for %s: this machine alone", l.addr, l.what), "")
		case l.reach == barely && d.settings.AllowPlainHTTP:
			d.say(check, warning, fmt.Sprintf("%s for %s: reachable from elsewhere without TLS", l.addr, l.what), "see that nothing but the proxy that does TLS can reach it")
		case l.reach == barely:
			d.say(check, failure, fmt.Sprintf("%s for %s: reachable from elsewhere without TLS", l.addr, l.what), giveTLS)
		case l.what == "operators":
			d.say(check, warning, l.addr+" for operators: reachable from elsewhere", "keep it to the operators' network: whoever holds a token can use it from there")
		default:
			d.say(check, fine, fmt.Sprintf("%s for %s, with TLS", l.addr, l.what), "")
		}
	}
}

// Times before a certificate's end at which the doctor speaks.
const (
	certSoon = 21 * 24 * time.Hour
	certLast = 3 * 24 * time.Hour
)

// checkTLS looks at the certificate: that it fits its key, the names and the time.
func (d *doctor) checkTLS() {
	const check = "tls"
	if d.settings.TLSCert == "" {
		d.say(check, left, "no certificate is set", "")
		return
	}
	pair, err := tls.LoadX509KeyPair(d.settings.TLSCert, d.settings.TLSKey)
	if err != nil {
		d.say(check, failure, err.Error(), "`keybrake serve` does not start with it")
		return
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		d.say(check, failure, err.Error(), "get another certificate")
		return
	}
	switch rest := leaf.NotAfter.Sub(d.now); {
	case rest <= 0:
		d.say(check, failure, "the certificate ended on "+leaf.NotAfter.UTC().Format(time.DateOnly), "renew it and restart")
	case d.now.Before(leaf.NotBefore):
		d.say(check, failure, "the certificate begins on "+leaf.NotBefore.UTC().Format(time.DateOnly), "wait, or look at the clock")
	case rest < certLast:
		d.say(check, failure, "the certificate ends on "+leaf.NotAfter.UTC().Format(time.DateTime)+" UTC", "renew it now and restart")
	case rest < certSoon:
		d.say(check, warning, "the certificate ends on "+leaf.NotAfter.UTC().Format(time.DateOnly), "renew it and restart")
	default:
		d.say(check, fine, "the certificate fits its key and ends on "+leaf.NotAfter.UTC().Format(time.DateOnly), "")
	}
	names := d.settings.AdminHost
	if u, err := url.Parse(d.settings.ConsoleURL); err == nil && u.Scheme == "https" && u.Hostname() != "" {
		names = append(names[:len(names):len(names)], u.Hostname())
	}
	for _, name := range names {
		if err := leaf.VerifyHostname(name); err != nil {
			d.say(check, failure, "the certificate is not for "+name, "get one with that name in it")
		}
	}
}

// checkFiles looks who else can read or change what only the server should.
func (d *doctor) checkFiles() {
	const check = "files"
	place, err := d.settings.place()
	if err != nil {
		return // the settings' own finding says it
	}
	store, master := place.base, place.masterKey(&d.settings)
	wrong := 0
	look := func(path string, forbidden fs.FileMode, why, do string) {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			d.say(check, failure, err.Error(), "run the doctor as the server's own user")
			wrong++
		case info.Mode().Perm()&forbidden != 0:
			d.say(check, failure, fmt.Sprintf("%s has mode %#o: %s", path, info.Mode().Perm(), why), do)
			wrong++
		}
	}
	for _, path := range []string{store, store + "-wal", place.mark(), master, d.settings.ReadyFile, d.settings.TLSKey} {
		if path != "" {
			look(path, 0o077, "others can read or change it", "chmod 600 "+path)
		}
	}
	if path, err := serverFilePath(os.Getenv); err == nil {
		look(path, 0o077, "others can read the token in it", "chmod 600 "+path)
	}
	if d.configFile != "" {
		look(d.configFile, 0o022, "others can change what the server runs with", "chmod go-w "+d.configFile)
	}
	look(filepath.Dir(store), 0o022, "others can put another store in its place", "chmod go-w "+filepath.Dir(store))
	if wrong == 0 {
		d.say(check, fine, "store, keys and settings are this user's alone", "")
	}
	if _, err := os.Stat(master); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(store); err == nil {
			d.say("master key", failure, master+" is not there, and the store is", "put it back from where it is kept: nothing in the store can be opened without it, and no other key fits")
		}
	}
}

// checkStore asks the server that has the store; if none runs it reads the file.
func (d *doctor) checkStore(ctx context.Context) {
	const check = "store"
	if d.server != nil {
		st, err := d.server.client.Status(ctx)
		switch {
		case err != nil:
			d.say(check, failure, "the server does not say how its store is: "+err.Error(), "")
		case st.Trouble != "":
			d.say(check, failure, st.Trouble, "money calls are refused until that is mended")
		default:
			found := fmt.Sprintf("%d records, signed up to %d; `keybrake audit verify` reads the chain", st.Height, st.Signed)
			if st.Safety != "" {
				found += "; " + st.Safety
			}
			d.say(check, fine, found, "")
		}
		return
	}
	place, err := d.settings.place()
	if err != nil {
		return
	}
	if place.postgres != "" {
		d.checkPostgres(ctx, place)
		return
	}
	path := place.base
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		d.say(check, left, path+" is not there yet; the first start makes it", "")
		return
	}
	if err := sqlite.CheckFile(ctx, path); err != nil {
		d.say(check, failure, path+": "+err.Error(), "restore the last backup: docs/operating.md#backup-and-restore")
		return
	}
	d.say(check, fine, path+" is whole, page by page", "")
}

// checkPostgres looks whether PostgreSQL can be used, without changing anything.
func (d *doctor) checkPostgres(ctx context.Context, p place) {
	const check = "store"
	safety, err := postgres.Examine(ctx, p.postgres, d.settings.StoreUnsafe)
	switch {
	case err != nil:
		d.say(check, failure, p.show()+": "+err.Error(), "docs/operating.md#postgresql")
	case safety.Remembers:
		d.say(check, fine, p.show()+" can be used; "+safety.Why, "")
	default:
		d.say(check, warning, p.show()+" can be used, and can forget; "+safety.Why, "docs/operating.md#postgresql says how to add a synchronous standby")
	}
}

// Free space at which the doctor speaks. A full disk loses nothing, but refuses every call.
const (
	diskLow  = 2 << 30
	diskLast = 256 << 20
)

func (d *doctor) checkDisk() {
	const check = "disk"
	place, err := d.settings.place()
	if err != nil {
		return
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(place.base), &st); err != nil {
		d.say(check, failure, err.Error(), "")
		return
	}
	free := uint64(st.Bavail) * uint64(st.Bsize) //nolint:gosec,unconvert // their types differ between systems; neither is negative
	found := fmt.Sprintf("%.1f GB are free for the store; a million calls take about 2.2 GB", float64(free)/1e9)
	switch {
	case free < diskLast:
		d.say(check, failure, found, "make room: without it every call is refused")
	case free < diskLow:
		d.say(check, warning, found, "make room, or let old records move into archive files (--audit-keep)")
	default:
		d.say(check, fine, found, "")
	}
}
