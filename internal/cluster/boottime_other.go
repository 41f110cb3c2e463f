//go:build !linux

package cluster

import "time"

var began = time.Now()

// elapsed is the time since the process began. Whether it goes on while the machine is suspended depends on the system:
// where nodes of a cluster may be suspended, run them on Linux.
func elapsed() time.Duration { return time.Since(began) }
