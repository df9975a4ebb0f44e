package watchdog

import (
	"time"

	"golang.org/x/sys/unix"
)

// monotonic is CLOCK_MONOTONIC: it does not jump, and it stands still while the host is suspended.
func monotonic() instant { return clock(unix.CLOCK_MONOTONIC) }

// asleep is how long the host has been suspended since boot: CLOCK_BOOTTIME counts that time too.
func asleep() time.Duration { return clock(unix.CLOCK_BOOTTIME) - clock(unix.CLOCK_MONOTONIC) }

func clock(id int32) time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(id, &ts) // cannot fail for these clocks and a valid pointer
	return time.Duration(ts.Nano())
}
