package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
)

// choice says which mutants of a package are tried.
type choice struct {
	part, parts int      // every parts-th, from the part-th (0 is the first) on
	sample      int      // how many are drawn of those; 0: all
	seed        uint64   // draws them
	again       []string // lines of an earlier run: only those that it tells as survivors; nil: all
}

func choose(part, again string, sample int, seed uint64) (choice, error) {
	c := choice{sample: sample, seed: seed}
	if n, err := fmt.Sscanf(part, "%d/%d", &c.part, &c.parts); n != 2 || err != nil || c.part < 1 || c.part > c.parts {
		return choice{}, fmt.Errorf("%q is not a part: say 1/3, 2/3 or 3/3", part)
	}
	c.part--
	if again == "" {
		return c, nil
	}
	text, err := os.ReadFile(again)
	if err != nil {
		return choice{}, err
	}
	c.again = strings.Split(string(text), "\n")
	return c, nil
}

// of chooses. Neighbours are put into different parts, so that all parts take about as long.
func (c choice) of(made []*mutant) []*mutant {
	var out []*mutant
	for i, m := range made {
		if i%c.parts == c.part && (c.again == nil || m.toldIn(c.again)) {
			out = append(out, m)
		}
	}
	if c.sample > 0 && c.sample < len(out) {
		draw := rand.New(rand.NewPCG(c.seed, 0))
		draw.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
		out = out[:c.sample]
	}
	return out
}
