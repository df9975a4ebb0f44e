package chaos

import (
	"math/rand/v2"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestWatchdogLossIsBounded: calls that never end, a watchdog that is gone, and nobody who hurries: the agent drains for as
// long as the configuration says, ends its workers, and exits by itself.
func TestWatchdogLossIsBounded(t *testing.T) {
	for _, phase := range []string{"mid-call", "mid-stream"} {
		t.Run(phase, func(t *testing.T) {
			r := start(t, false)
			r.descend()
			r.enter(phase)
			r.moment = time.Now()
			r.watchdog.kill(syscall.SIGKILL)
			bound := drain + grace + limit
			left, took := r.tree.WaitEmpty(bound)
			if len(left) > 0 {
				t.Fatalf("%v are left %s after the watchdog's death; log:\n%s", left, bound, r.log())
			}
			if took < drain {
				t.Errorf("the drain lasted %s, it may last %s: calls were cut", took, drain)
			}
			r.checkGraces(&cell{})
			t.Logf("empty %s after the watchdog's death; drain %s, grace %s", took.Round(time.Millisecond), drain, grace)
		})
	}
}

// TestKillWhileItComesUp kills at any moment of the first second, when launchers, keepers and workers are half there.
func TestKillWhileItComesUp(t *testing.T) {
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("replay with -chaos.seed=%d", s)
	for _, names := range []string{"agent", "watchdog", "agent+watchdog", "agent+watchdog+launchers"} {
		c := &cell{name: names + "/coming up"}
		t.Run(names, func(t *testing.T) {
			for i := range *rounds {
				t.Run(strconv.Itoa(i+1), func(t *testing.T) { killComingUp(t, c, names, randomOf(s, c.name, i)) })
			}
		})
		t.Log(c)
	}
}

func killComingUp(t *testing.T, c *cell, names string, random *rand.Rand) {
	r := start(t, false)
	moment := time.Duration(random.Int64N(int64(800 * time.Millisecond)))
	<-time.After(moment) // the moment itself
	for i, pid := range childrenOf(r.agent.pid) {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil { // a resolver of interpreters comes and goes
			r.launchers[strconv.Itoa(i)] = &process{pid: pid, fd: fd}
		}
	}
	before := len(r.tree.Alive())
	for _, p := range r.victims(names, random) {
		p.kill(syscall.SIGKILL)
	}
	left, took := r.tree.WaitEmpty(limit)
	c.survivors, c.took = c.survivors+len(left), append(c.took, took)
	if before < 2 || len(left) > 0 {
		t.Errorf("%d processes %s after the start, survivors %+v; log:\n%s", before, moment, left, r.log())
	}
}
