package chaos

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// needsWholeHost: the host's clock and its table of files are everybody's.
func needsWholeHost(h *Host) string {
	switch {
	case !h.Own:
		return "harms the whole host; give --whole-host on a machine of your own"
	case !h.Root:
		return "needs root"
	}
	return ""
}

// wholeHostScenarios harm more than the agent's own tree.
func wholeHostScenarios() []Scenario {
	return []Scenario{
		{Name: "clock-stepped", What: "the clock of the host jumps an hour ahead, two back, and one ahead, while calls run",
			Expect: "0 kills; no deadline comes early or late; the calls are answered", Rounds: 1, Long: 5, Alone: true, Cannot: needsWholeHost, Run: clockStepped},
	}
}

// clockStepped: every limit is measured with the clock that nobody sets (clock_gettime(2), CLOCK_MONOTONIC).
func clockStepped(r *Round) {
	w, before := startBeating(r, 3*time.Second)
	r.Cleanup(r.keepClock())
	for _, hours := range []int{1, -2, 1} {
		running := w.begin("pause", `{"seconds": 4}`)
		w.Until("a running call", func() bool {
			calls, err := w.agent.Client().Calls(r.ctx, "p")
			return err == nil && len(calls) == 1 && calls[0].Worker != ""
		})
		step(r, time.Duration(hours)*time.Hour)
		r.pass(7 * time.Second) // two beats and the agent's timeout
		if <-running.done; running.err != nil {
			r.Errorf("the call over a step of %d hours: %v", hours, running.err)
		}
		w.unharmed(before)
	}
	w.stopAgent()
}

// step sets the clock by so much.
func step(r *Round, by time.Duration) {
	var now unix.Timespec
	r.Must(unix.ClockGettime(unix.CLOCK_REALTIME, &now))
	to := unix.NsecToTimespec(now.Nano() + int64(by))
	r.Must(unix.ClockSettime(unix.CLOCK_REALTIME, &to))
}

// keepClock returns what sets the clock to what it would be without the steps between.
func (r *Round) keepClock() (restore func()) {
	ahead := func() int64 {
		var real, steady unix.Timespec
		r.Must(unix.ClockGettime(unix.CLOCK_REALTIME, &real))
		r.Must(unix.ClockGettime(unix.CLOCK_BOOTTIME, &steady))
		return real.Nano() - steady.Nano()
	}
	was := ahead()
	return func() { step(r, time.Duration(was-ahead())) }
}

const fileMax = "/proc/sys/fs/file-max"

// noFiles: the table of files is full for everybody but root (ENFILE).
func noFiles(r *victims) {
	was, err := os.ReadFile(fileMax)
	r.Must(err)
	r.Cleanup(func() { r.Must(os.WriteFile(fileMax, was, 0)) })
	r.Must(os.WriteFile(fileMax, []byte("1"), 0))
}
