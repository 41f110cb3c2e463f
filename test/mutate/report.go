package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// result is what came of the mutants of one package.
type result struct {
	pkg      string
	made     []*mutant
	tried    []*mutant
	verdicts []verdict
	accepted map[string]string
	took     time.Duration
}

// report prints the figures and what survived without leave, and reports whether anything did.
func (r *result) report() bool {
	count := map[verdict]int{}
	var open []string
	untold := map[string]int{} // how many of those that a key names were not tried, or survived
	for _, m := range r.made {
		untold[m.key()]++
	}
	for i, m := range r.tried {
		count[r.verdicts[i]]++
		if r.verdicts[i] != survived {
			untold[m.key()]--
		} else if r.accepted[m.key()] == "" {
			open = append(open, m.String()+"\n    "+m.key())
		}
	}
	var stale []string
	for key := range r.accepted {
		if strings.HasPrefix(key, r.pkg+"/") && untold[key] == 0 {
			stale = append(stale, key)
		}
	}
	fmt.Printf("%s: %d mutants, %d tried in %s: %d caught, %d more by taking too long, %d survived (%d of them accepted), %d did not compile\n",
		r.pkg, len(r.made), len(r.tried), r.took.Round(time.Second), count[caught], count[overdue], count[survived], count[survived]-len(open),
		count[stillborn])
	slices.Sort(open)
	slices.Sort(stale)
	for _, s := range open {
		fmt.Println("survived:", s)
	}
	for _, s := range stale {
		fmt.Println("accepted, and none survives:", s)
	}
	return len(open)+len(stale) > 0
}

// readAccepted reads lines of "key => reason".
func readAccepted(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, reason, ok := strings.Cut(line, " => ")
		if !ok || reason == "" {
			return nil, fmt.Errorf("%s: %q is not `key => reason`", path, line)
		}
		out[key] = reason
	}
	return out, nil
}
