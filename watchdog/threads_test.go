package watchdog

import (
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"
)

func threads(t *testing.T, pid int) int {
	t.Helper()
	all, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// TestThreadsAreReserved: under a limit of processes a watchdog can have no other thread than those of its start, and a flood of
// beats and signals must not need one. The limit itself is in verify's user-processes-run-out.
func TestThreadsAreReserved(t *testing.T) {
	const needed = 5 // this goroutine's, the runtime's monitor and template, two for signals
	s := beating()
	s.Beat = time.Millisecond
	tr := startTree(t, s, options{})
	tr.ready(1)
	before := threads(t, tr.cmd.Process.Pid)
	if before < needed+threadReserve {
		t.Errorf("%d threads at the start, want %d and a reserve of %d", before, needed, threadReserve)
	}
	const signals = 20_000
	for i := range signals {
		tr.signal([...]syscall.Signal{syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGCHLD}[i%4])
	}
	for end := time.Now().Add(patience); !tr.stdout.has("SIGUSR1"); <-time.After(10 * time.Millisecond) {
		tr.signal(syscall.SIGUSR1) // a full queue drops it
		if time.Now().After(end) {
			t.Fatal("the watchdog does not answer a signal")
		}
	}
	if after := threads(t, tr.cmd.Process.Pid); after != before {
		t.Errorf("%d threads after %d signals, %d before", after, signals, before)
	}
	tr.signal(syscall.SIGTERM)
	tr.exit(0)
}
