package agent

import "time"

const (
	backoffFirst = 250 * time.Millisecond
	backoffLast  = 30 * time.Second
	// stableAfter is how long a worker must have served for its next death to count as a first one.
	stableAfter = time.Minute
)

// restartBackoff is the delay before a restart: 250 ms, doubled with each death in a row up to 30 s, plus up to 10 %
// jitter so that a herd of workers does not start in step. The zero value is ready to use.
type restartBackoff struct {
	deaths int
	// jitter gives numbers in [0,1); nil means none.
	jitter func() float64
}

// next is the delay before the restart after one more death at now.
func (b *restartBackoff) next(time.Time) time.Duration {
	delay := backoffLast
	if b.deaths < 7 { // 250 ms × 2⁷ is above 30 s
		delay = min(backoffFirst<<b.deaths, backoffLast)
	}
	b.deaths++
	if b.jitter != nil {
		delay += time.Duration(b.jitter() * float64(delay) / 10)
	}
	return delay
}

// lived records how long the worker that died had served.
func (b *restartBackoff) lived(served time.Duration) {
	if served >= stableAfter {
		b.deaths = 0
	}
}
