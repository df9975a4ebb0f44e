package heartbeat

import (
	"errors"
	"fmt"
	"time"
)

// What to do with a lost worker.
const (
	Replace = "replace" // kill it; the pool replaces it
	Report  = "report"  // only say so
)

// Config is the failure detector's settings for one pool.
type Config struct {
	Enabled      bool          // default true; without it only death (pidfd) and a cut link end a worker
	Interval     time.Duration // between two pings, 1–60 s, default 2 s
	Timeout      time.Duration // longest silence, 5–300 s, default 10 s
	MaxMissed    int           // missed pings in a row, 1–10, default 3
	InitialDelay time.Duration // before the first ping of a ready worker, 0–300 s, default 0
	Jitter       float64       // share of the interval by which it varies, 0–0.5, default 0.1
	OnLost       string        // Replace (default) or Report
	HeldLimit    time.Duration // how long a stopped or frozen worker is kept, 1 s–24 h, default 60 s
	BlockedLimit time.Duration // how long a call may block the interpreter without progress, 1 s–24 h, default 10 s
}

// Default is the configuration of a pool that says nothing.
func Default() Config {
	return Config{Enabled: true, Interval: 2 * time.Second, Timeout: 10 * time.Second, MaxMissed: 3, Jitter: 0.1,
		OnLost: Replace, HeldLimit: time.Minute, BlockedLimit: 10 * time.Second}
}

// Validate reports every fault at once, each beginning with its key.
func (c Config) Validate() error {
	var faults []error
	between := func(key string, v, low, high time.Duration) {
		if v < low || v > high {
			faults = append(faults, fmt.Errorf("heartbeat.%s: %s is out of range; it must be between %s and %s", key, v, low, high))
		}
	}
	between("interval", c.Interval, time.Second, time.Minute)
	between("timeout", c.Timeout, 5*time.Second, 300*time.Second)
	between("initial_delay", c.InitialDelay, 0, 300*time.Second)
	between("held_limit", c.HeldLimit, time.Second, 24*time.Hour)
	between("blocked_limit", c.BlockedLimit, time.Second, 24*time.Hour)
	if c.MaxMissed < 1 || c.MaxMissed > 10 {
		faults = append(faults, fmt.Errorf("heartbeat.max_missed: %d is out of range; it must be between 1 and 10", c.MaxMissed))
	}
	if !(c.Jitter >= 0 && c.Jitter <= 0.5) {
		faults = append(faults, fmt.Errorf("heartbeat.jitter: %g is out of range; it must be between 0%% and 50%%", c.Jitter))
	}
	if c.OnLost != Replace && c.OnLost != Report {
		faults = append(faults, fmt.Errorf("heartbeat.on_lost: %q is not known; it must be %q or %q", c.OnLost, Replace, Report))
	}
	if c.Interval*time.Duration(c.MaxMissed) > c.Timeout {
		faults = append(faults, fmt.Errorf("heartbeat.timeout: %s is shorter than interval × max_missed (%s), so max_missed would never be reached; raise timeout or lower one of the two",
			c.Timeout, c.Interval*time.Duration(c.MaxMissed)))
	}
	return errors.Join(faults...)
}
