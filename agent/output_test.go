package agent

import (
	"context"
	"slices"
	"testing"
	"time"
)

func TestAFloodOfOutputIsDroppedAndCounted(t *testing.T) {
	a := startTestAgent(t, testTools, nil)
	if _, err := a.Call(within(t, 30*time.Second), request("flood", `{"seconds":1.0}`)); err != nil {
		t.Fatal(err)
	}
	if w := a.Status().Pools[0].Workers[0]; w.LinesDropped == 0 {
		t.Errorf("no line was dropped: %+v", w)
	}
	serves(t, a, time.Second)
}

// TestAFloodOfOutputSlowsNobodyElse: the p99 of calls to another worker, in windows with and without a worker that prints
// without end. In a window without it that worker burns as much CPU, so that only the output differs.
func TestAFloodOfOutputSlowsNobodyElse(t *testing.T) {
	a := startTestAgent(t, testTools, func(p *PoolConfig) { p.Workers = 2 })
	if err := a.WaitReady(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	const windows, calls = 5, 1000
	p99 := func(beside string) time.Duration {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { defer close(ended); _, _ = a.Call(ctx, request(beside, `{"seconds":30}`)) }()
		await(t, 10*time.Second, "busy beside", func() bool { s := a.Status().Pools[0]; return s.Busy == 1 && s.Ready == 1 })
		if beside == "flood" {
			await(t, 10*time.Second, "dropping lines", func() bool { return linesDropped(a) > 0 })
		}
		var took []time.Duration
		for range calls {
			start := time.Now()
			if _, err := a.Call(ctx, request("add", `{"a":1,"b":2}`)); err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(start))
		}
		cancel() // its worker is killed and replaced
		<-ended
		await(t, 10*time.Second, "two workers again", func() bool { return a.Status().Pools[0].Ready == 2 })
		slices.Sort(took)
		return took[calls*99/100]
	}
	var with, without []time.Duration
	for range windows {
		without = append(without, p99("spin"))
		with = append(with, p99("flood"))
	}
	slices.Sort(with)
	slices.Sort(without)
	quiet, loud := without[windows/2], with[windows/2]
	t.Logf("p99 beside a worker that spins %s, beside one that floods its log %s (%.2f x)", quiet, loud, float64(loud)/float64(quiet))
	// The ratio is for a quiet machine to show; below noise it means nothing, and a log that blocks would cost far more.
	if noise := 25 * time.Millisecond; loud > 2*quiet && loud > noise {
		t.Errorf("a flood of output makes other calls %.1f times slower", float64(loud)/float64(quiet))
	}
}

func linesDropped(a *Agent) (n uint64) {
	for _, w := range a.Status().Pools[0].Workers {
		n += w.LinesDropped
	}
	return n
}
