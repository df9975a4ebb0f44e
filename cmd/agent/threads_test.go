package main

import (
	"os"
	"testing"
)

func TestThreadsAreReserved(t *testing.T) {
	count := func() int {
		all, err := os.ReadDir("/proc/self/task")
		must(t, err)
		return len(all)
	}
	const many = 64 // more than this process has
	reserveThreads(many)
	if n := count(); n <= many {
		t.Errorf("%d threads after a reserve of %d", n, many)
	}
	before := count()
	reserveThreads(many)
	if n := count(); n > before+4 {
		t.Errorf("%d threads, %d before: idle ones were not used again", n, before)
	}
}
