package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// serverFile is what serve leaves for commands of the same user: where it listens, and an operator token
// that lives as long as the process. The ready file carries the same.
type serverFile struct {
	Gateway    string `json:"gateway"`
	Admin      string `json:"admin"`
	AdminToken string `json:"admin_token"`
	Upstream   string `json:"upstream,omitempty"` // the upstream's name, where there is one alone
	Sandbox    string `json:"sandbox,omitempty"`  // with --dev: where the sandbox listens
	Store      string `json:"store,omitempty"`    // the store's file, next to which a KILL file can be left
}

// serverFilePath is ${XDG_STATE_HOME:-~/.local/state}/keybrake/server.json.
func serverFilePath(getenv func(string) string) (string, error) {
	dir := getenv("XDG_STATE_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find the state folder: %w", err)
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, "keybrake", "server.json"), nil
}

// readServerFile reads what a server left.
func readServerFile(path string) (serverFile, error) {
	var f serverFile
	text, err := os.ReadFile(path)
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return f, fmt.Errorf("read %s: %w", path, err)
	}
	return f, nil
}

// write puts the file in place whole, readable by its owner only.
func (f serverFile) write(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the folder of %s: %w", path, err)
	}
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return writeWhole(path, func(w io.Writer) error {
		_, err := w.Write(append(text, '\n'))
		return err
	})
}
