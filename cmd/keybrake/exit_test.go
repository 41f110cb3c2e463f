package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExitCodes holds the contract for scripts: 0 done, 1 refused or failed, 2 usage, 3 not reached. Nothing
// listens on port 1 of the loopback.
func TestExitCodes(t *testing.T) {
	store := filepath.Join(t.TempDir(), "kb.db")
	const nobody = "http://127.0.0.1:1"
	for name, c := range map[string]struct {
		args  string
		admin string
		token string
		want  int
		says  string
	}{
		"version":                       {"version", "", "", exitDone, ""},
		"help":                          {"--help", "", "", exitDone, ""},
		"the permission map":            {"scopes -o json", "", "", exitDone, ""},
		"an unknown resource":           {"scopes refund", "", "", exitFailed, "did you mean `refunds`?"},
		"a file that is not there":      {"audit verify nowhere.jsonl", "", "", exitFailed, "nowhere.jsonl"},
		"an unknown command":            {"foo", "", "", exitUsage, "keybrake --help"},
		"a near command":                {"kil", "", "", exitUsage, "did you mean `keybrake kill`?"},
		"an unknown subcommand":         {"key creat", "", "", exitUsage, "keybrake key create"},
		"a group alone":                 {"key", "", "", exitUsage, "create"},
		"an unknown flag":               {"spend --foo", "", "", exitUsage, "--foo"},
		"a wrong format":                {"spend -o xml", "", "", exitUsage, "json"},
		"too many arguments":            {"version now", "", "", exitUsage, "keybrake version --help"},
		"a missing argument":            {"key show", "", "", exitUsage, "keybrake key show --help"},
		"a stop of nothing":             {"kill", "", "", exitUsage, "--all"},
		"a stop of two kinds":           {"kill a --all", "", "", exitUsage, "--all"},
		"a resumption without a reason": {"resume --all", "", "", exitUsage, "--reason"},
		"an upstream without a secret":  {"upstream add x", "", "", exitUsage, "--secret-stdin"},
		"a rate without a value":        {"rates set EUR", "", "", exitUsage, "EUR=1.09"},
		"a role that there is not":      {"token create x --role root", "", "", exitUsage, "admin, responder, auditor or stop"},
		"a URL without a token":         {"spend", nobody, "", exitUsage, "KEYBRAKE_ADMIN_TOKEN"},
		"a URL that is none":            {"spend", "nonsense", "x", exitUsage, "http://127.0.0.1:8788"},
		"a statement of no day":         {"reconcile --statement --from yesterday", "", "", exitUsage, "2026-11-01"},
		"a statement's flag alone":      {"reconcile --others", "", "", exitUsage, "--statement"},
		"a statement without a server":  {"reconcile --statement", nobody, "x", exitNoReach, nobody},
		"no server":                     {"spend", "", "", exitNoReach, "keybrake serve"},
		"a server that does not listen": {"spend", nobody, "x", exitNoReach, nobody},
		"a stop without server or file": {"kill --all", nobody, "x", exitNoReach, "NOTHING WAS STOPPED"},
		"a stop by glob without server": {"kill --match a* --store " + store, nobody, "x", exitNoReach, "NOTHING WAS STOPPED"},
		"a stop where nothing can lie":  {"kill --all --store /nonexistent/kb.db", nobody, "x", exitNoReach, "NOTHING WAS STOPPED"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("XDG_STATE_HOME", t.TempDir())
			t.Setenv("KEYBRAKE_ADMIN_URL", c.admin)
			t.Setenv("KEYBRAKE_ADMIN_TOKEN", c.token)
			t.Setenv("KEYBRAKE_STORE", "")
			var out, problems bytes.Buffer
			got := run(t.Context(), strings.Fields(c.args), streams{in: strings.NewReader(""), out: &out, err: &problems})
			if got != c.want || !strings.Contains(problems.String(), c.says) {
				t.Errorf("exit %d, want %d; it says %q", got, c.want, problems.String())
			}
			if got != exitDone && !strings.HasPrefix(problems.String(), "keybrake: ") {
				t.Errorf("it says %q", problems.String())
			}
			if (got == exitDone) != (out.Len() > 0) {
				t.Errorf("on standard output: %q", out.String())
			}
		})
	}
	if left, err := os.ReadDir(filepath.Dir(store)); err != nil || len(left) > 0 {
		t.Errorf("files were left: %v, %v", left, err)
	}
}

func TestWhatOthersWroteMovesNoCursor(t *testing.T) {
	if got := printable("a\x1b[2Jb\u202ec\nd"); got != "a [2Jb c d" {
		t.Errorf("%q", got)
	}
}
