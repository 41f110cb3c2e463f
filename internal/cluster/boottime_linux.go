package cluster

import (
	"time"

	"golang.org/x/sys/unix"
)

// elapsed is the time since the machine was started, also while it was suspended. Go's own monotonic clock stands still
// then, and a node that woke up would believe that its lease had only begun.
func elapsed() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("cluster: no CLOCK_BOOTTIME: " + err.Error()) // the kernel has had it since 2.6.39
	}
	return time.Duration(ts.Nano())
}
