package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/keybrake/keybrake/internal/admin"
)

// connection is a way to a server, and what is known of it beside that.
type connection struct {
	client *admin.Client
	admin  string
	store  string // file of its store, if this machine's server.json tells; empty otherwise
}

// connect finds the server: the one that the environment names, else the one that serve left for this user.
func connect() (connection, error) {
	url, token := os.Getenv("KEYBRAKE_ADMIN_URL"), os.Getenv("KEYBRAKE_ADMIN_TOKEN")
	path, err := serverFilePath(os.Getenv)
	if err != nil && url == "" {
		return connection{}, reachError{err}
	}
	file, fileErr := readServerFile(path)
	c := connection{admin: url}
	switch {
	case url != "" && token != "":
	case url != "" && fileErr == nil && file.Admin == url:
		token = file.AdminToken
	case url != "":
		return connection{}, usageError{errors.New("KEYBRAKE_ADMIN_URL is set and KEYBRAKE_ADMIN_TOKEN is not; set both")}
	case errors.Is(fileErr, fs.ErrNotExist):
		return connection{}, reachError{fmt.Errorf("no server was found (%s is not there); start one with `keybrake serve`, or set KEYBRAKE_ADMIN_URL and KEYBRAKE_ADMIN_TOKEN", path)}
	case fileErr != nil:
		return connection{}, reachError{fmt.Errorf("the server's address cannot be read: %w", fileErr)}
	default:
		c.admin = file.Admin
		if token == "" {
			token = file.AdminToken
		}
	}
	if fileErr == nil && file.Admin == c.admin {
		c.store = file.Store
	}
	if c.client, err = admin.NewClient(c.admin, token); err != nil {
		return connection{}, usageError{err}
	}
	return c, nil
}

// explain gives an error of the client the exit code of the contract.
func explain(c connection, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case errors.Is(err, admin.ErrUnreachable):
		return reachError{fmt.Errorf("the server at %s was not reached; is it running? (%w)", c.admin, err)}
	default:
		return err
	}
}

// ask connects and asks one question.
func ask[T any](f func(*admin.Client) (T, error)) (T, error) {
	var out T
	c, err := connect()
	if err != nil {
		return out, err
	}
	out, err = f(c.client)
	return out, explain(c, err)
}
