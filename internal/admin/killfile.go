package admin

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/keybrake/keybrake/internal/store"
	"github.com/keybrake/keybrake/internal/vault"
)

// The KILL file stops calls when the admin port does not answer. It lies beside the store and has one line
// per stop:
//
//	all
//	upstream:stripe-test
//	key:agent-support-refunds-runner42 read-only
//
// Ids may stand for names. A file that is empty, cannot be read or has any other line stops everything: in
// an emergency `touch` is enough. The server takes the file away (".applying") before it reads it, so that a
// file written meanwhile is another one, and calls it ".applied" once the stop is durable.
const (
	killSuffix     = ".KILL"
	applyingSuffix = ".applying"
	appliedSuffix  = ".applied"
	// killPoll is how often the file and the brakes of the store are looked at.
	killPoll = 100 * time.Millisecond
	// maxKillFile bounds what is read of it: ten thousand keys. A longer one stops everything.
	maxKillFile = 1 << 20
)

// KillFilePath is where the KILL file of a store lies.
func KillFilePath(storePath string) string { return filepath.Clean(storePath) + killSuffix }

// KillLine writes one stop as a line of the KILL file, without its end.
func KillLine(scope string, readOnly bool) string {
	if readOnly {
		return scope + " " + vault.ReadOnly.String()
	}
	return scope
}

// KillLines writes a request as lines of the KILL file. A glob cannot be resolved without a server, so it is
// refused.
func KillLines(req KillRequest) ([]string, error) {
	var lines []string
	switch {
	case req.Match != "":
		return nil, refuse(Invalid, "a glob needs the server, which knows the names; name the vault keys, or use --upstream or --all")
	case req.All:
		lines = append(lines, KillLine(store.ScopeAll, req.ReadOnly))
	case req.Upstream != "":
		lines = append(lines, KillLine("upstream:"+req.Upstream, req.ReadOnly))
	}
	for _, k := range req.Keys {
		lines = append(lines, KillLine("key:"+k, req.ReadOnly))
	}
	for _, line := range lines {
		if strings.ContainsAny(line, "\r\n") {
			return nil, refuse(Invalid, "a name with a line break in it names nothing")
		}
	}
	return lines, nil
}

// WriteKillFile adds lines to a KILL file, keeping what is there. The file is replaced whole, so that no
// reader sees half of it, and it is durable when this returns.
func WriteKillFile(path string, lines []string) error {
	present, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("read the KILL file that is there: %w", err)
	case len(bytes.TrimSpace(present)) == 0:
		lines = append([]string{store.ScopeAll}, lines...) // empty meant everything
	default:
		lines = append(strings.Split(strings.TrimSpace(string(present)), "\n"), lines...)
	}
	return replaceFile(path, []byte(strings.Join(lines, "\n")+"\n"))
}

func replaceFile(path string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil // the file is there; only its name may be lost in a power cut
	}
	_ = dir.Sync() // likewise: some file systems cannot
	_ = dir.Close()
	return nil
}

// leaveKillFile writes down a stop that holds in memory only, and says so.
func (s *Service) leaveKillFile(who Actor, scopes []string, mode vault.Brake, why error) string {
	held := "the stop holds in this process but is not durable yet"
	if s.Cluster != nil {
		held = "the stop holds at this node but is not durable yet, and other nodes that reach the store do not know of it: stop there, too, if it is theirs as well"
	}
	if s.KillFile == "" || who.Name == killFileActor {
		return fmt.Sprintf("%s (%v)", held, why)
	}
	lines := make([]string, len(scopes))
	for i, scope := range scopes {
		lines[i] = KillLine(scope, mode == vault.ReadOnly)
	}
	if err := WriteKillFile(s.KillFile, lines); err != nil {
		return fmt.Sprintf("%s (%v), and it could not be left in a file: %v", held, why, err)
	}
	return fmt.Sprintf("%s (%v); it was left in %s, which is applied as soon as the store takes it, also at the next start", held, why, s.KillFile)
}

// killFileActor is who acts when the file does.
const killFileActor = "kill-file"

// WatchKillFile applies the KILL file at path whenever there is one, and keeps the brakes in memory as the
// store has them, every 100 ms until ctx ends. The two do not wait for each other: a store that hangs does
// not keep the file from stopping calls. In a cluster the brakes are the member's to read, under its lease: of two readers the
// one with older rows could loosen what the other has tightened.
func (s *Service) WatchKillFile(ctx context.Context, path string) {
	if s.Cluster == nil {
		s.background.Go(func() {
			every(ctx, func() {
				if err := s.syncBrakes(ctx); err != nil && ctx.Err() == nil {
					s.Log.Error("the brakes of the store could not be read; those in memory stay as they are", "error", err)
				}
			})
		})
	}
	if path == "" {
		<-ctx.Done()
		return
	}
	every(ctx, func() { s.applyKillFile(ctx, path) })
}

func every(ctx context.Context, f func()) {
	tick := time.NewTicker(killPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f()
		}
	}
}

// applyKillFile applies the file if there is one, and first one that was taken away but not applied.
func (s *Service) applyKillFile(ctx context.Context, path string) {
	s.killFileMu.Lock()
	defer s.killFileMu.Unlock()
	taken := path + applyingSuffix
	if _, err := os.Lstat(taken); err == nil {
		s.applyTaken(ctx, taken, path)
		return
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		s.lastApplied = ""
		return
	}
	if err := os.Rename(path, taken); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return // taken back meanwhile
		}
		taken = path // it must stop all the same
	}
	s.applyTaken(ctx, taken, path)
}

func (s *Service) applyTaken(ctx context.Context, taken, path string) {
	content, err := readKillFile(taken)
	if err != nil {
		content = nil // unreadable: everything
	}
	if taken == path && s.lastApplied == fingerprint(content) {
		return // it could not be taken away, and is durable
	}
	if !s.applyKillLines(ctx, content) {
		return // tried again in the next round; memory has it
	}
	if taken == path {
		s.lastApplied = fingerprint(content)
		s.Log.Error("the KILL file was applied and could not be renamed; remove it, or it stops again at the next start", "file", path)
		return
	}
	if err := os.Rename(taken, path+appliedSuffix); err != nil {
		s.Log.Error("the KILL file was applied and could not be renamed; remove it", "file", taken, "error", err)
	}
}

func fingerprint(content []byte) string { return "applied:" + string(content) }

func readKillFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxKillFile {
		return nil, errors.New("not a file of reasonable size")
	}
	b := make([]byte, info.Size())
	n, err := f.ReadAt(b, 0)
	if n == len(b) {
		err = nil
	}
	return b[:n], err
}

// applyKillLines stops what the lines name and reports whether that is durable.
func (s *Service) applyKillLines(ctx context.Context, content []byte) bool {
	durable := true
	for _, req := range parseKillLines(content) {
		answer, err := s.Kill(ctx, Actor{Name: killFileActor, Via: ViaProcess}, req)
		if err != nil { // an upstream that does not exist: nothing to stop there, but somebody meant something
			s.Log.Error("a line of the KILL file stops nothing", "line", fmt.Sprintf("%+v", req.Target), "error", err)
			continue
		}
		for _, f := range answer.Failed {
			s.Log.Error("a line of the KILL file stops nothing", "key", f.Key, "error", f.Error)
		}
		if answer.Warning != "" {
			s.Log.Error("the KILL file was applied in memory", "warning", answer.Warning)
			durable = false
		}
		s.Log.Warn("the KILL file was applied", "scope", answer.Scope, "mode", answer.Mode, "keys", len(answer.Stopped), "in_flight", answer.InFlight)
	}
	return durable
}

// parseKillLines reads a KILL file into requests, one per scope kind and mode. Anything odd is everything.
func parseKillLines(content []byte) []KillRequest {
	everything := []KillRequest{{Target: Target{All: true}, Reason: "KILL file"}}
	var keys, readKeys []string
	var out []KillRequest
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		scope, readOnly := strings.CutSuffix(line, " "+vault.ReadOnly.String())
		kind, name, named := strings.Cut(strings.TrimSpace(scope), ":")
		req := KillRequest{ReadOnly: readOnly, Reason: "KILL file"}
		switch {
		case kind == store.ScopeAll && !named:
			req.All = true
			out = append(out, req)
		case kind == "upstream" && name != "":
			req.Upstream = name
			out = append(out, req)
		case kind == "key" && name != "" && readOnly:
			readKeys = append(readKeys, name)
		case kind == "key" && name != "":
			keys = append(keys, name)
		default:
			return everything
		}
	}
	if lines.Err() != nil {
		return everything
	}
	for _, group := range []struct {
		names    []string
		readOnly bool
	}{{keys, false}, {readKeys, true}} {
		if len(group.names) > 0 {
			out = append(out, KillRequest{Target: Target{Keys: slices.Compact(group.names)}, ReadOnly: group.readOnly, Reason: "KILL file"})
		}
	}
	if len(out) == 0 {
		return everything
	}
	return out
}

// KillFilePending reports whether a KILL file lies at path or is being applied.
func KillFilePending(path string) bool {
	for _, p := range []string{path, path + applyingSuffix} {
		if _, err := os.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}
