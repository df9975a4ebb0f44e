package watchdog

import (
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// monotonic is CLOCK_MONOTONIC: it does not jump, and it stands still while the host is suspended.
func monotonic() instant { return clock(unix.CLOCK_MONOTONIC) }

// asleep is how long the host has been suspended since boot: CLOCK_BOOTTIME counts that time too.
func asleep() time.Duration { return asleepBy(clock) }

// asleepBy takes, of at most five pairs of reads, the first within a millisecond or the closest: no call reads both clocks at once, and a
// thread that loses its processor between the two, for 100 ms and more under load, would take that for sleep.
func asleepBy(clock func(id int32) time.Duration) (slept time.Duration) {
	closest := time.Duration(math.MaxInt64)
	for range 5 {
		before := clock(unix.CLOCK_MONOTONIC)
		boot := clock(unix.CLOCK_BOOTTIME)
		if gap := clock(unix.CLOCK_MONOTONIC) - before; gap < closest {
			closest, slept = gap, boot-before
		}
		if closest < time.Millisecond {
			break
		}
	}
	return slept
}

func clock(id int32) time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(id, &ts) // cannot fail for these clocks and a valid pointer
	return time.Duration(ts.Nano())
}
