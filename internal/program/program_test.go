package program

import (
	"context"
	"strings"
	"testing"
	"time"
)

func shell(script string) Program { return Program{Argv: []string{"sh", "-c", script}, Output: 16} }

func TestTheBeginningOfTheOutputIsKeptAndTheRestRead(t *testing.T) {
	out, err := Run(t.Context(), shell("yes 0123456789 | head -c 3000000"))
	if err != nil || out != "0123456789\n01234" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestAnErrorQuotesTheEndOfTheComplaintAndNothingOfTheOutput(t *testing.T) {
	p := shell("echo printed; yes filler | head -c 3000000 >&2; echo no s3cret door >&2; exit 3")
	p.Hide = func(text string) string { return strings.ReplaceAll(text, "s3cret", "…") }
	out, err := Run(t.Context(), p)
	if out != "" || err == nil || !strings.HasSuffix(err.Error(), "no … door") || !strings.Contains(err.Error(), "exit status 3") || strings.Contains(err.Error(), "printed") || len(err.Error()) > 2*maxQuoted {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := Run(t.Context(), shell("exit 4")); err == nil || err.Error() != "sh: exit status 4" {
		t.Errorf("%v", err)
	}
}

func TestTheProgramReadsItsInputAndKnowsNothingOfOurs(t *testing.T) {
	t.Setenv("KEYBRAKE_ADMIN_TOKEN", "secret")
	p := shell(`cat; echo "$KEYBRAKE_ADMIN_TOKEN$MORE"`)
	p.Stdin, p.Env = []byte("given "), []string{"MORE=more"}
	if out, err := Run(t.Context(), p); err != nil || out != "given more\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestAProgramThatDoesNotEndIsEnded(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Run(ctx, shell("sleep 600")); err == nil || !strings.Contains(err.Error(), "did not end in time") {
		t.Errorf("%v", err)
	}
}

func TestOfWhatIsWrittenInPiecesTheEndIsKept(t *testing.T) {
	for _, pieces := range [][]string{{"abcdefgh"}, {"abcd", "efgh"}, {"a", "b", "cdefg", "h"}, {"abcdefg", "h"}, {"", "zzzzzzzzzzzzzefgh"}} {
		k := tail{limit: 4}
		for _, p := range pieces {
			if n, err := k.Write([]byte(p)); n != len(p) || err != nil {
				t.Errorf("%q: %d, %v", p, n, err)
			}
		}
		if string(k.kept) != "efgh" {
			t.Errorf("%q: kept is %q", pieces, k.kept)
		}
	}
}

func TestHalfASecretIsNotQuoted(t *testing.T) {
	const secret = "0123456789abcdef"
	p := shell("printf %s " + secret + " >&2; yes '' | head -c 4090 >&2; exit 1")
	p.Hide = func(text string) string { return strings.ReplaceAll(text, secret, "…") }
	if _, err := Run(t.Context(), p); err == nil || strings.Contains(err.Error(), "abcdef") {
		t.Errorf("%v", err)
	}
}
