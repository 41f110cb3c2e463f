//go:build !linux

package postgres

import "syscall"

// giveUpUnheard does nothing: how long a connection goes on unheard is the system's to say. Where nodes of a cluster may be
// cut off from their store, run them on Linux.
func giveUpUnheard(string, string, syscall.RawConn) error { return nil }
