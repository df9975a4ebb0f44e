package watchdog

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestLosingTheProcessorIsNoSleep: a clock that loses time between two reads, as a loaded host's does.
func TestLosingTheProcessorIsNoSleep(t *testing.T) {
	const slept = 42 * time.Second
	for _, c := range []struct {
		name string
		lost []time.Duration // after each read
		want time.Duration
	}{
		{"nothing is lost", nil, slept},
		{"between the two clocks", []time.Duration{300 * time.Millisecond}, slept},
		{"after the second", []time.Duration{0, 300 * time.Millisecond}, slept},
		{"four times", []time.Duration{300 * time.Millisecond, 0, 0, time.Second, 0, 0, time.Second, 0, 0, time.Second}, slept},
		{"each time", []time.Duration{300 * time.Millisecond, 0, 0, 20 * time.Millisecond, 0, 0, time.Second, 0, 0, time.Second, 0, 0, time.Second},
			slept + 20*time.Millisecond},
	} {
		now, reads := 100*time.Second, 0
		got := asleepBy(func(id int32) time.Duration {
			at := now
			if reads < len(c.lost) {
				now += c.lost[reads]
			}
			reads++
			if id == unix.CLOCK_BOOTTIME {
				return at + slept
			}
			return at
		})
		if got != c.want {
			t.Errorf("%s: asleep for %s, want %s", c.name, got, c.want)
		}
	}
	if a, b := asleep(), asleep(); b-a > time.Millisecond || a-b > time.Millisecond {
		t.Errorf("this host slept %s, and then %s", a, b)
	}
}
