//go:build unix

package sqlite

import (
	"os"
	"syscall"
)

// flock takes the file's lock without waiting; the lock goes with the process.
func flock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }
