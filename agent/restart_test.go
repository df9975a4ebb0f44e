package agent

import (
	"log/slog"
	"testing"
	"time"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestBackoffDoublesToItsLimitAndStartsAnewAfterAStableLife(t *testing.T) {
	var b restartBackoff
	ms := time.Millisecond
	for i, want := range []time.Duration{250 * ms, 500 * ms, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second,
		30 * time.Second, 30 * time.Second} {
		if got := b.next(time.Time{}); got != want {
			t.Errorf("death %d: %s, want %s", i+1, got, want)
		}
	}
	for range 1000 { // no overflow of the shift
		if got := b.next(time.Time{}); got != backoffLast {
			t.Fatal(got)
		}
	}
	b.lived(stableAfter - 1)
	if got := b.next(time.Time{}); got != backoffLast {
		t.Errorf("after a short life: %s", got)
	}
	b.lived(stableAfter)
	if got := b.next(time.Time{}); got != backoffFirst {
		t.Errorf("after a stable life: %s", got)
	}
}

func TestBackoffJitterIsAtMostATenth(t *testing.T) {
	for _, r := range []float64{0, 0.5, 0.999999} {
		b := restartBackoff{jitter: func() float64 { return r }}
		for range 10 {
			plain := restartBackoff{deaths: b.deaths}
			least := plain.next(time.Time{})
			if got := b.next(time.Time{}); got < least || got > least+least/10 {
				t.Errorf("jitter %g: %s for %s", r, got, least)
			}
		}
	}
}

// The phase over all inputs: at target it is ready whatever failed; with nobody serving and starts that fail for good it
// is failed; below target it is degraded once it has served or fails in part, and starting before.
func TestPhaseOverAllInputs(t *testing.T) {
	why := failf(PoolFailed, "why")
	for _, c := range []struct {
		serving int // of 2
		served  bool
		failure *Error
		want    poolPhase
	}{
		{0, false, nil, poolStarting}, {0, false, why, poolFailed}, {0, true, nil, poolDegraded}, {0, true, why, poolFailed},
		{1, false, nil, poolStarting}, {1, false, why, poolDegraded}, {1, true, nil, poolDegraded}, {1, true, why, poolDegraded},
		{2, false, nil, poolReady}, {2, false, why, poolReady}, {2, true, nil, poolReady}, {2, true, why, poolReady},
		{3, true, why, poolReady}, // a held worker is back and its substitute not yet gone
	} {
		phase, told := derive(c.serving, 2, false, c.served, c.failure)
		if phase != c.want || (told != nil) != (c.want == poolFailed) {
			t.Errorf("%d of 2 serve, served %v, failure %v: %s %v, want %s", c.serving, c.served, c.failure != nil, phase, told, c.want)
		}
		if phase, told := derive(c.serving, 2, true, c.served, c.failure); phase != poolDraining || told != nil {
			t.Errorf("%d of 2 serve, served %v, failure %v, drained: %s %v", c.serving, c.served, c.failure != nil, phase, told)
		}
	}
}

func TestRestartBookkeeping(t *testing.T) {
	now := time.Now()
	failure := failf(PoolFailed, "why")
	ms := time.Millisecond
	for _, c := range []struct {
		name     string
		before   slot
		report   exitReport
		readyAt  time.Time
		failures int
		wait     time.Duration
	}{
		{"first failed start", slot{}, exitReport{starting: true, failure: failure}, time.Time{}, 1, 250 * ms},
		{"second", slot{failures: 1, restarts: restartBackoff{deaths: 1}}, exitReport{starting: true, failure: failure}, time.Time{}, 2, 500 * ms},
		{"third: the slot has failed and is probed", slot{failures: 2, restarts: restartBackoff{deaths: 2}}, exitReport{starting: true, failure: failure}, time.Time{}, 3, time.Minute},
		{"ended by us while starting", slot{failures: 1, restarts: restartBackoff{deaths: 1}}, exitReport{starting: true, ordered: true}, time.Time{}, 1, 0},
		{"ended by us", slot{}, exitReport{ordered: true}, now.Add(-time.Hour), 0, 0},
		{"died by itself", slot{}, exitReport{}, now.Add(-time.Second), 0, 250 * ms},
		{"died again and again", slot{restarts: restartBackoff{deaths: 3}}, exitReport{}, now.Add(-time.Second), 0, 2 * time.Second},
		{"died after a stable life", slot{restarts: restartBackoff{deaths: 3}}, exitReport{}, now.Add(-time.Hour), 0, 250 * ms},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &pool{agent: &Agent{events: newFeed[event](1, 0, nil), log: discard()}, log: discard(), loop: poolLoop{slots: []slot{c.before}, probe: time.Minute}}
			c.report.worker = &worker{pool: p, id: "w", shown: workerShown{readyAt: c.readyAt}}
			p.loop.report(c.report)
			p.takeExits(now)
			s := p.loop.slots[0]
			if s.failures != c.failures || s.notYet.Sub(now) != c.wait || (s.failure != nil) != (c.report.failure != nil) {
				t.Errorf("%d failures, wait %s, failure %v", s.failures, s.notYet.Sub(now), s.failure)
			}
			if len(p.loop.exits) != 0 {
				t.Error("the report is kept")
			}
		})
	}
}
