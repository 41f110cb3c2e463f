// Command smtpd is a mail server for tests: it prints its address, and then each letter that it takes as a line of JSON. It ends
// with its standard input.
package main

import (
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// letter is what a client handed over.
type letter struct {
	From string
	To   []string
	User string
	TLS  bool
	Data string
}

type backend struct{ user, password string }

func (b *backend) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &session{backend: b, conn: c}, nil
}

type session struct {
	*backend
	conn *smtp.Conn
	letter
}

func (s *session) AuthMechanisms() []string {
	if s.user == "" {
		return nil
	}
	return []string{sasl.Plain}
}

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != s.user || password != s.password {
			return smtp.ErrAuthFailed
		}
		s.User = user
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.user != "" && s.User == "" {
		return smtp.ErrAuthRequired
	}
	s.From = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.To = append(s.To, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.letter.Data = string(b)
	_, s.TLS = s.conn.TLSConnectionState()
	return json.NewEncoder(os.Stdout).Encode(s.letter)
}

func (s *session) Reset()        { s.letter = letter{User: s.User} }
func (s *session) Logout() error { return nil }

func main() {
	cert := flag.String("cert", "", "certificate, PEM")
	key := flag.String("key", "", "its key, PEM")
	implicit := flag.Bool("implicit", false, "TLS from the first byte")
	user := flag.String("user", "", "who signs in; empty: nobody has to")
	password := flag.String("password", "", "with what")
	flag.Parse()
	server := smtp.NewServer(&backend{*user, *password})
	server.Domain = "localhost"
	if *cert != "" {
		pair, err := tls.LoadX509KeyPair(*cert, *key)
		if err != nil {
			log.Fatal(err)
		}
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(l.Addr())
	if *implicit {
		l = tls.NewListener(l, server.TLSConfig)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	log.Fatal(server.Serve(l))
}
