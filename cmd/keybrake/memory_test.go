package main

import "testing"

func TestTheMemoryLimitLeavesRoomAboveWhatIsInUse(t *testing.T) {
	for _, c := range []struct {
		name        string
		inUse, want int64
	}{
		{"an empty store", 10 << 20, leastMemory},
		{"a hundred thousand keys", 70 << 20, leastMemory},
		{"a million keys", 600 << 20, 900 << 20},
	} {
		if got := softLimit(uint64(c.inUse)); got != c.want {
			t.Errorf("%s: %d MB in use are limited to %d MB, want %d MB", c.name, c.inUse>>20, got>>20, c.want>>20)
		}
	}
}
