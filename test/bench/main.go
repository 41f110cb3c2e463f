// Command bench measures Keybrake from outside: real processes on one machine, driven over HTTP by a closed
// loop of connections. It prints tables; docs/benchmarks.md keeps them with what they mean.
//
//	bench run -keybrake BIN [-caddy BIN] [-what create,refund,lone,reads,big,export,pages,compare,nodes,gateways,soak]
//	bench forward -listen ADDR -to HOST:PORT      the bare forwarder that reads are compared with
//	bench fill -dir DIR -keys N -rows N           a large store, made once and kept
//
// Nothing here is a test and nothing fails because it was slow; a wrong answer ends the run.
package main

import (
	"errors"
	"fmt"
	"os"
)

func main() {
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func command(args []string) error {
	if len(args) == 0 {
		return errors.New("say run, forward or fill")
	}
	switch args[0] {
	case "run":
		return run(args[1:])
	case "forward":
		return forward(args[1:])
	case "fill":
		return fill(args[1:])
	default:
		return fmt.Errorf("unknown command %q: say run, forward or fill", args[0])
	}
}
