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
	const rounds = 8 // 512 more, were none used again; a thread on its way to its rest when the next round begins may be missed
	for range rounds {
		reserveThreads(many)
	}
	if n := count(); n > 2*many {
		t.Errorf("%d threads after %d reserves of %d: idle ones were not used again", n, rounds+1, many)
	}
}
