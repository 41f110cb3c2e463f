// Command caddy is Caddy as a bare reverse proxy, built from its modules: a figure for scale beside the
// gateway's in the benchmark of reads. It listens on -listen, forwards to -to and puts the secret in the
// environment variable UPSTREAM_SECRET on every request, which is all that a credential-swapping proxy
// must do at least.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp"              // the server
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy" // its one handler here
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	to := flag.String("to", "", "upstream host:port")
	flag.Parse()
	if err := serve(*listen, *to, os.Getenv("UPSTREAM_SECRET")); err != nil {
		fmt.Fprintln(os.Stderr, "caddy:", err)
		os.Exit(1)
	}
}

// object is a JSON object.
type object = map[string]any

func serve(listen, to, secret string) error {
	config, err := json.Marshal(object{
		"admin":   object{"disabled": true, "config": object{"persist": false}},
		"logging": object{"logs": object{"default": object{"level": "ERROR"}}},
		"apps": object{"http": object{"servers": object{"bench": object{
			"listen":          []string{listen},
			"automatic_https": object{"disable": true},
			"protocols":       []string{"h1"},
			"routes": []object{{"handle": []object{{
				"handler":   "reverse_proxy",
				"upstreams": []object{{"dial": to}},
				"transport": object{
					"protocol": "http", "compression": false,
					"keep_alive": object{"max_idle_conns_per_host": 512},
				},
				"headers": object{"request": object{"set": object{
					"Authorization": []string{"Bearer " + secret}, "Host": []string{to},
				}}},
			}}}},
		}}}},
	})
	if err != nil {
		return err
	}
	if err := caddy.Load(config, true); err != nil {
		return err
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, os.Interrupt)
	<-end
	return caddy.Stop()
}
