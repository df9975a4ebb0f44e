package agent

import "time"

// progress is what a process that starts is doing, and since when.
type progress struct {
	what  string
	since time.Time
}

func (p progress) String() string { return orElse(p.what, "starting") }

// shown is for the status: nothing, or what and for how many seconds.
func (p progress) shown() (what string, seconds float64) {
	if p.what == "" {
		return "", 0
	}
	return p.what, time.Since(p.since).Seconds()
}
