package secretstore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keybrake/keybrake/internal/vault"
)

func TestAPlaceThatCannotWorkIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		place Place
		says  string
	}{
		"without a name":                      {Place{Kind: "file", Path: "/a/{label}"}, "a name is needed"},
		"without a kind":                      {Place{Name: "a"}, "write file, command or vault"},
		"a file with a relative path":         {Place{Name: "a", Kind: "file", Path: "{label}.key"}, "absolute"},
		"a file whose folder is the label":    {Place{Name: "a", Kind: "file", Path: "/a/{label}/key"}, "file's name only"},
		"a file with a command":               {Place{Name: "a", Kind: "file", Path: "/a", Command: []string{"x"}}, "`command` means nothing"},
		"a command without a program":         {Place{Name: "a", Kind: "command"}, "`command` is needed"},
		"a command with the secret in it":     {Place{Name: "a", Kind: "command", Command: []string{"op", "{secret}"}}, "`stdin` only"},
		"a replacement with the secret in it": {Place{Name: "a", Kind: "command", Command: []string{"op"}, Replace: []string{"op", "x={secret}"}}, "`stdin` only"},
		"an environment with the secret":      {Place{Name: "a", Kind: "command", Command: []string{"op"}, Env: map[string]string{"A": "{secret}"}}, "`stdin` only"},
		"an input without the secret":         {Place{Name: "a", Kind: "command", Command: []string{"op"}, Stdin: "{}"}, "would get lost"},
		"a command that waits for ever":       {Place{Name: "a", Kind: "command", Command: []string{"op"}, Wait: "24h"}, "1s to 10m"},
		"a vault without TLS elsewhere":       {Place{Name: "a", Kind: "vault", Address: "http://bao.example.com", Path: "a", TokenEnv: "T"}, "without TLS"},
		"a vault without an address":          {Place{Name: "a", Kind: "vault", Path: "a", TokenEnv: "T"}, "write it like https://"},
		"a vault with a password in it":       {Place{Name: "a", Kind: "vault", Address: "https://u:p@bao.example.com", Path: "a", TokenEnv: "T"}, "write it like https://"},
		"a vault without a token":             {Place{Name: "a", Kind: "vault", Address: "https://bao.example.com", Path: "a"}, "token_file"},
		"a vault with two tokens":             {Place{Name: "a", Kind: "vault", Address: "https://bao.example.com", Path: "a", TokenEnv: "T", TokenFile: "/t"}, "token_file"},
		"a vault without a path":              {Place{Name: "a", Kind: "vault", Address: "https://bao.example.com", TokenEnv: "T"}, "within the mount"},
		"a vault with a path that leads up":   {Place{Name: "a", Kind: "vault", Address: "https://bao.example.com", Path: "../{label}", TokenEnv: "T"}, "within the mount"},
		"a vault whose certificate is away":   {Place{Name: "a", Kind: "vault", Address: "https://bao.example.com", Path: "a", TokenEnv: "T", CAFile: "/nowhere.pem"}, "ca_file"},
	} {
		if _, err := NewSink(c.place); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	two := []Place{{Name: "a", Kind: "file", Path: "/a/{label}"}, {Name: "a", Kind: "file", Path: "/b/{label}"}}
	if err := Check(two, nil); err == nil || !strings.Contains(err.Error(), `sinks: there are two named "a"`) {
		t.Error(err)
	}
	reading := Place{Name: "a", Kind: "command", Command: []string{"op"}, Stdin: "{secret}"}
	if err := Check(nil, []Place{reading}); err == nil || !strings.Contains(err.Error(), "for sinks") {
		t.Error(err)
	}
}

func fileSink(t *testing.T, path string) *Sink {
	t.Helper()
	s, err := NewSink(Place{Name: "files", Kind: "file", Path: path})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAFileIsReplacedWholeAndNobodyElsesToRead(t *testing.T) {
	folder := t.TempDir()
	sink := fileSink(t, filepath.Join(folder, "{label}.key"))
	path := filepath.Join(folder, someLabel+".key")
	if err := os.WriteFile(path, []byte(strings.Repeat("longer than what comes ", 100)), 0o644); err != nil {
		t.Fatal(err)
	}
	open, err := os.Open(path) // a reader in the middle of it
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := sink.Put(t.Context(), someLabel, vault.NewSecret(first), true); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	info, statErr := os.Stat(path)
	if err != nil || statErr != nil || string(text) != first || info.Mode().Perm() != 0o600 {
		t.Errorf("%q, mode %v, %v", text, info.Mode(), err)
	}
	if old, err := open.Stat(); err != nil || old.Size() != 2300 {
		t.Errorf("the file before was written into: %d bytes, %v", old.Size(), err)
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	source, err := NewSource(Place{Name: "files", Kind: "file", Path: filepath.Join(folder, "{label}.key")})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := source.Get(t.Context(), someLabel); err != nil || got.Reveal() != first {
		t.Errorf("%q, %v", got.Reveal(), err)
	}
}

func TestAFileIsNotPutWhereOthersCouldSeeOrTurnIt(t *testing.T) {
	for name, c := range map[string]struct {
		label   string
		prepare func(t *testing.T, folder string) string // returns the path
		says    string
	}{
		"a folder that others may write into": {someLabel, func(t *testing.T, folder string) string {
			must(t, os.Chmod(folder, 0o777))
			return filepath.Join(folder, "{label}")
		}, "others may write"},
		"a folder that is a link": {someLabel, func(t *testing.T, folder string) string {
			link := filepath.Join(t.TempDir(), "link")
			must(t, os.Symlink(folder, link))
			return filepath.Join(link, "{label}")
		}, "symbolic link"},
		"a folder that is not there": {someLabel, func(_ *testing.T, folder string) string { return filepath.Join(folder, "no", "{label}") }, "no such file"},
		"a link in the file's place": {someLabel, func(t *testing.T, folder string) string {
			must(t, os.Symlink(filepath.Join(t.TempDir(), "elsewhere"), filepath.Join(folder, someLabel)))
			return filepath.Join(folder, "{label}")
		}, "no regular file"},
		"a folder in the file's place": {someLabel, func(t *testing.T, folder string) string {
			must(t, os.Mkdir(filepath.Join(folder, someLabel), 0o700))
			return filepath.Join(folder, "{label}")
		}, "no regular file"},
		"a label that leads elsewhere": {"a/../../b", func(_ *testing.T, folder string) string { return filepath.Join(folder, "{label}") }, "has a / in it"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			sink := fileSink(t, c.prepare(t, folder))
			before, err := os.ReadDir(folder)
			must(t, err)
			for _, err := range []error{sink.Ready(t.Context(), c.label), sink.Put(t.Context(), c.label, vault.NewSecret(first), false)} {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v", err)
				}
			}
			if after, err := os.ReadDir(folder); err != nil || len(after) != len(before) {
				t.Errorf("%v, %v", after, err)
			}
		})
	}
}

func TestAFolderOfSomebodyElseTakesNoFile(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("everything is root's to give away")
	}
	if err := fileSink(t, "/etc/{label}").Ready(t.Context(), someLabel); err == nil || !strings.Contains(err.Error(), "somebody else") {
		t.Error(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOfWhatLiesThereOnlyOneLineIsASecret(t *testing.T) {
	for text, says := range map[string]string{
		"":                         "empty",
		"\n \n":                    "empty",
		"a\nb":                     "several lines",
		strings.Repeat("a", 10000): "longer than",
	} {
		path := filepath.Join(t.TempDir(), "x")
		must(t, os.WriteFile(path, []byte(text), 0o600))
		source, err := NewSource(Place{Name: "a", Kind: "file", Path: path})
		must(t, err)
		if _, err := source.Get(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

func commandSink(t *testing.T, p Place) *Sink {
	t.Helper()
	p.Name, p.Kind = "command", "command"
	s, err := NewSink(p)
	must(t, err)
	return s
}

func TestACommandIsTheStoresOwnAndEndsInTime(t *testing.T) {
	service := programs(t)
	t.Setenv("KEYBRAKE_ADMIN_TOKEN", "kb_admin_canary")
	sink := commandSink(t, Place{Command: []string{"env"}, Env: map[string]string{"PROFILE": "of {label}"}})
	must(t, sink.Put(t.Context(), someLabel, vault.NewSecret(first), false))
	env, err := os.ReadFile(filepath.Join(service, "environment"))
	must(t, err)
	if text := string(env); strings.Contains(text, "canary") || strings.Contains(text, first) || !strings.Contains(text, "PROFILE=of "+someLabel) || !strings.Contains(text, "PATH=") {
		t.Errorf("%s", text)
	}
	slow := commandSink(t, Place{Command: []string{"slow"}, Wait: "50ms"})
	if err := slow.Put(t.Context(), someLabel, vault.NewSecret(first), false); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if err := commandSink(t, Place{Command: []string{"nothing-of-that-name"}}).Ready(t.Context(), someLabel); err == nil {
		t.Error("a program that is not there is ready")
	}
}

func TestWhatACommandComplainsAboutIsToldWithoutTheSecret(t *testing.T) {
	programs(t)
	err := commandSink(t, Place{Command: []string{"loud"}}).Put(t.Context(), someLabel, vault.NewSecret(first), false)
	if err == nil || !strings.Contains(err.Error(), "the service said no to [secret]") || strings.Contains(err.Error(), first) || len(err.Error()) > 600 {
		t.Error(err)
	}
}

// A label is one argument, whatever is in it, and no shell reads it.
func TestALabelIsAnArgument(t *testing.T) {
	service := programs(t)
	sink := commandSink(t, Place{Command: []string{"vault", "kv", "put", "-mount=secret", "{label}", "key=-"}})
	label := "agent:a@b.c/$(touch x);`y`" // the vault makes no such name; a store must not depend on it
	must(t, sink.Put(t.Context(), label, vault.NewSecret(first), false))
	entries, err := os.ReadDir(service)
	if err != nil || len(entries) != 1 || entries[0].Name() != "secret%"+strings.ReplaceAll(label, "/", "%") {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestAnEmptySecretIsPutNowhere(t *testing.T) {
	sink := fileSink(t, filepath.Join(t.TempDir(), "{label}"))
	if err := sink.Put(t.Context(), someLabel, vault.NewSecret(""), false); err == nil {
		t.Error("it was taken")
	}
}
