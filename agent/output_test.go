package agent

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

func TestAFloodOfOutputIsDroppedAndCounted(t *testing.T) {
	var lines atomic.Uint64
	a := startTestAgent(t, testTools, nil, func(a *Agent) {
		a.output = func(string, string, string, uint64, string) { lines.Add(1) }
	})
	if _, err := a.Call(within(t, 30*time.Second), request("flood", `{"seconds":1.0}`)); err != nil {
		t.Fatal(err)
	}
	w := workers(a)[0]
	if w.LinesDropped == 0 {
		t.Errorf("no line was dropped: %+v", w)
	}
	// The burst, and the rate for as long as the flood lasted, with what a late reader adds.
	if n := lines.Load(); n < outputBurst || n > outputBurst+10*outputRate {
		t.Errorf("%d lines came through", n)
	}
	serves(t, a, time.Second)
}

const (
	floodRounds = 7    // windows of each kind, alternating
	floodCalls  = 3000 // calls in a window
	// floodFactor is the bound on the median p99 beside a flood, as a multiple of that beside a call that only burns a
	// processor: what a flood costs beyond the processor it takes is what its output costs. On few processors that others
	// want as well the tail beside a sleep is no measure of that; it is printed. floodSlack is added for what a wake-up
	// waits there; an agent or a worker that blocks on output costs far more.
	floodFactor = 2
	floodSlack  = 5 * time.Millisecond
)

// p99Beside is the 99th percentile of calls to one worker while the other runs the tool for that long.
func p99Beside(t *testing.T, a *Agent, tool string) time.Duration {
	t.Helper()
	beside := begin(t, a, request(tool, `{"seconds":0.7}`))
	busy := runs(t, a)
	times := make([]time.Duration, 0, floodCalls)
	for len(times) < floodCalls {
		start := time.Now()
		r, err := a.Call(within(t, 20*time.Second), request("add", `{"a":1,"b":2}`))
		if err != nil {
			t.Fatal(err)
		}
		if r.Worker == busy { // the window is over: the other worker is free again
			<-beside
			beside = begin(t, a, request(tool, `{"seconds":0.7}`))
			busy = runs(t, a)
			continue
		}
		times = append(times, time.Since(start))
	}
	if o := <-beside; o.err != nil {
		t.Fatal(o.err)
	}
	slices.Sort(times)
	return times[floodCalls*99/100]
}

// One worker that prints without end must not slow the calls of another: windows beside a sleep, beside a call that burns
// and beside a flood alternate, and the medians of their p99 are compared. `go test -v` prints the figures.
func TestAFloodOfOutputDoesNotSlowOtherCalls(t *testing.T) {
	a := startTestAgent(t, testTools, two, func(a *Agent) {
		a.output = func(string, string, string, uint64, string) {}
	})
	waitReady(t, a)
	p99 := map[string][]time.Duration{}
	for range floodRounds {
		for _, tool := range []string{"pause", "spin", "flood"} {
			p99[tool] = append(p99[tool], p99Beside(t, a, tool))
		}
	}
	median := func(tool string) time.Duration {
		sorted := slices.Sorted(slices.Values(p99[tool]))
		return sorted[len(sorted)/2]
	}
	quiet, burnt, flooded := median("pause"), median("spin"), median("flood")
	dropped := uint64(0)
	for _, w := range workers(a) {
		dropped += w.LinesDropped
	}
	t.Logf("p99 beside a sleep %s, a burning call %s, a flood %s (%.2f and %.2f times), %d lines dropped; windows %v", quiet, burnt, flooded,
		float64(flooded)/float64(quiet), float64(flooded)/float64(burnt), dropped, p99)
	if flooded > floodFactor*max(quiet, burnt)+floodSlack {
		t.Errorf("p99 beside a flood is %s, beside a sleep %s, beside a burning call %s", flooded, quiet, burnt)
	}
	if dropped == 0 {
		t.Error("nothing was dropped: it was no flood")
	}
}
