package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keybrake/keybrake/internal/audit"
	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
	"github.com/keybrake/keybrake/internal/store/sqlite"
	"github.com/keybrake/keybrake/internal/vault"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"keybrake": main})
}

// TestScripts runs the command line as users type it: testdata/*.txtar.
func TestScripts(t *testing.T) { scripts(t, "testdata", nil) }

// TestScriptsOnPostgreSQL gives each script an empty database, $TARGET.
func TestScriptsOnPostgreSQL(t *testing.T) {
	server := postgrestest.Start(t)
	scripts(t, filepath.Join("testdata", "postgres"), func(e *testscript.Env) { e.Setenv("TARGET", server.Database(t)) })
}

func scripts(t *testing.T, dir string, setup func(*testscript.Env)) {
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(e *testscript.Env) error {
			e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, "state"))
			e.Setenv("HOME", e.WorkDir)
			if setup != nil {
				setup(e)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await": await, "take": take, "read": read, "agent": agent, "direct": direct, "flip": flip, "cut": cut, "sandbox": control, "retry": retry, "old": oldStore, "spoil": spoil, "welcome": welcome, "until": untilSeen,
		},
	})
}

// await FILE: waits until a server has written its ready file; the script ends with the test's own deadline.
func await(ts *testscript.TestScript, _ bool, args []string) {
	for {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// untilSeen is until COMMAND REGEXP: runs a command again and again until its output has what is looked for.
func untilSeen(ts *testscript.TestScript, _ bool, args []string) {
	words, want := strings.Fields(args[0]), regexp.MustCompile(args[1])
	for {
		if err := ts.Exec(words[0], words[1:]...); err == nil && want.MatchString(ts.ReadFile("stdout")) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// take VAR FIELD FILE: reads a member of the JSON (customers.0.id is one inside) in a file, or the first word that begins
// with http.
func take(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[2])
	var at any
	if err := json.Unmarshal([]byte(text), &at); err == nil {
		for name := range strings.SplitSeq(args[1], ".") {
			switch in := at.(type) {
			case map[string]any:
				at = in[name]
			case []any:
				i, err := strconv.Atoi(name)
				ts.Check(err)
				at = in[i]
			}
		}
		ts.Setenv(args[0], fmt.Sprint(at))
		return
	}
	for _, word := range strings.Fields(text) {
		if strings.HasPrefix(word, "http") {
			ts.Setenv(args[0], word)
			return
		}
	}
	ts.Fatalf("no %s in %s:\n%s", args[1], args[2], text)
}

// read VAR FILE: reads a whole file.
func read(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], ts.ReadFile(args[1]))
}

// agent STATUS METHOD PATH [FORM]: one call with $KEY at $GATEWAY, answered with the status; the body goes to
// the file `answer`.
func agent(ts *testscript.TestScript, _ bool, args []string) {
	call(ts, ts.Getenv("GATEWAY"), ts.Getenv("KEY"), args)
}

// direct STATUS METHOD PATH [FORM]: the same with $SECRET at $SANDBOX, past the gateway.
func direct(ts *testscript.TestScript, _ bool, args []string) {
	call(ts, ts.Getenv("SANDBOX"), ts.Getenv("SECRET"), args)
}

func call(ts *testscript.TestScript, at, secret string, args []string) {
	form := ""
	if len(args) > 3 {
		form = args[3]
	}
	req, err := http.NewRequest(args[1], at+args[2], strings.NewReader(form))
	ts.Check(err)
	req.Header.Set("Authorization", "Bearer "+secret)
	if form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("answer"), body, 0o600))
	if fmt.Sprint(resp.StatusCode) != args[0] {
		ts.Fatalf("%s %s: %d, want %s\n%s", args[1], args[2], resp.StatusCode, args[0], body)
	}
}

// control COMMAND [JSON]: tells the sandbox at $SANDBOX what to do; what it says goes to the file `answer`.
func control(ts *testscript.TestScript, _ bool, args []string) {
	resp, err := http.Post(ts.Getenv("SANDBOX")+"/_sandbox/"+args[0], "application/json", strings.NewReader(strings.Join(args[1:], "")))
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if resp.StatusCode >= 300 {
		ts.Fatalf("the sandbox answers %d: %s", resp.StatusCode, body)
	}
	ts.Check(os.WriteFile(ts.MkAbs("answer"), body, 0o600))
}

// retry COMMAND...: runs it until it succeeds; the script ends with the test's own deadline.
func retry(ts *testscript.TestScript, _ bool, args []string) {
	for ts.Exec(args[0], args[1:]...) != nil {
		time.Sleep(50 * time.Millisecond)
	}
}

// flip FROM TO OLD NEW: copies a file with the first OLD replaced by NEW.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[2]) {
		ts.Fatalf("%s has no %s", args[0], args[2])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(strings.Replace(text, args[2], args[3], 1)), 0o600))
}

// cut FROM TO N: copies a file without its last N lines.
func cut(ts *testscript.TestScript, _ bool, args []string) {
	var n int
	_, err := fmt.Sscan(args[2], &n)
	ts.Check(err)
	lines := strings.SplitAfter(strings.TrimSuffix(ts.ReadFile(args[0]), "\n"), "\n")
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(strings.Join(lines[:len(lines)-n], "")), 0o600))
}

// old STORE N: makes a store with N records of two hundred days ago.
func oldStore(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	path := ts.MkAbs(args[0])
	master, _, err := vault.LoadOrCreateMaster(path + ".key")
	ts.Check(err)
	db, err := sqlite.Open(context.Background(), sqlite.Options{
		Path: path, Signer: master, MasterCheck: master.CheckValue(), Clock: func() time.Time { return time.Now().AddDate(0, 0, -200) },
	})
	ts.Check(err)
	for i := 0; i < n; i += 100 {
		var batch []*audit.Record
		for j := i; j < min(i+100, n); j++ {
			if j%2 == 0 {
				batch = append(batch, &audit.Record{Kind: audit.KindIntent, Key: "key_old", Operation: "refunds.create", Verdict: "allow"})
			} else {
				batch = append(batch, &audit.Record{Kind: audit.KindOutcome, Key: "key_old", Operation: "refunds.create", Ref: int64(j), Fate: "moved"})
			}
		}
		_, err := db.Log(context.Background(), batch...)
		ts.Check(err)
	}
	ts.Check(db.IndexNow())
	ts.Check(db.SignHead(context.Background()))
	ts.Check(db.Close())
}

// spoil FILE: flips a bit in the middle.
func spoil(ts *testscript.TestScript, _ bool, args []string) {
	file := []byte(ts.ReadFile(args[0]))
	file[len(file)/2] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), file, 0o600))
}
