package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
)

// silentTools fall silent on order.
const silentTools = `
import ctypes, os, time
import pitboss

@pitboss.tool
def who() -> int:
    return os.getpid()

@pitboss.tool
def pause(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()

@pitboss.tool
def hold_gil():
    ctypes.PyDLL(None).sleep(3600)  # PyDLL keeps the GIL
`

// substituteBound is how long after a fault a substitute has to be there, at the defaults.
const substituteBound = 10 * time.Second

// silence is one way in which workers fall silent, and what has to follow.
type silence struct {
	tool     string // that runs when it happens; "" for an idle worker
	stop     bool   // by SIGSTOP, not by the tool itself
	verdict  string
	evidence string        // a part of the verdict's
	kill     time.Duration // from the verdict held, or from the fault when it is blocked
}

var (
	stoppedIdle    = silence{stop: true, verdict: "held", evidence: "stopped", kill: time.Minute}
	stoppedMidCall = silence{tool: "pause", stop: true, verdict: "held", evidence: "stopped", kill: time.Minute}
	gilHeld        = silence{tool: "hold_gil", verdict: "blocked", evidence: "without progress", kill: 10 * time.Second}
)

// faulty is one worker that is made to fall silent.
type faulty struct {
	worker  string
	process *Process
	at      time.Time // of the fault
	call    *toolCall // that it ran
}

// toolCall is one call and its outcome, once done is closed.
type toolCall struct {
	done chan struct{}
	err  error
}

// silentWorkers is one agent in which several workers fall silent, one each step.
type silentWorkers struct {
	*Round
	silence
	agent  *Agent
	events *timeline
	faulty []*faulty
	pinned map[string]*Process // by worker: on a loaded host it may be dead before anybody has asked which one has the call
	loaded bool

	mu     sync.Mutex
	served map[string][]time.Time // by worker: when the calls began that it was sent
}

const spares = 2 // workers that nothing happens to

// run makes n workers silent, step apart, while calls go on all the time. heldLimit 0 leaves it at its default.
func (s silence) run(r *Round, n int, step, heldLimit time.Duration, loaded bool) {
	w := &silentWorkers{Round: r, silence: s, loaded: loaded, pinned: map[string]*Process{}, served: map[string][]time.Time{}}
	config := fmt.Sprintf("pools:\n  - {name: p, adapter: silent.py, workers: %d, timeouts: {kill: %s}", n+spares, grace)
	if heldLimit > 0 {
		w.kill = heldLimit
		config += fmt.Sprintf(", heartbeat: {held_limit: %s}", heldLimit)
	}
	w.agent = r.Start(Options{Config: config + "}\n", Files: map[string]string{"silent.py": silentTools}})
	w.agent.Ready()
	w.events = w.agent.follow()
	unload := func() {}
	if loaded {
		unload = r.load()
	}
	w.fall(n, step)
	calls := w.callAllTheTime()
	w.judge()
	calls()
	w.events.whole(r)
	ended := map[string]bool{}
	for _, f := range w.faulty {
		ended[f.worker] = true
	}
	w.events.spared(r, ended)
	unload() // it would be among those who are left
	w.stopAgent()
}

// stopAgent stops it and counts who is left.
func (w *silentWorkers) stopAgent() {
	w.agent.Watchdog.Kill(syscall.SIGTERM)
	w.Empty(patience)
}

// fall makes them silent. Calls of other tools run meanwhile unless the workers are to be idle.
func (w *silentWorkers) fall(n int, step time.Duration) {
	switch {
	case w.tool == "":
		w.meet()
		for id, process := range w.pinned {
			if len(w.faulty) < n {
				process.watch()
				w.faulty = append(w.faulty, &faulty{worker: id, process: process})
			}
		}
	case w.stop:
		for range n {
			w.occupy()
		}
	}
	start := time.Now()
	for i := range n {
		if wait := step*time.Duration(i) - time.Since(start); wait > 0 {
			w.pass(wait)
		}
		if !w.stop {
			w.occupy()
			continue
		}
		f := w.faulty[i]
		f.at = time.Now()
		f.process.Kill(syscall.SIGSTOP)
	}
	if w.tool == "" { // a call that came before the verdict would make it a worker with a call
		w.within(2*patience, "verdicts", func() bool {
			return !slices.ContainsFunc(w.faulty, func(f *faulty) bool { _, ok := w.events.verdict(f.worker, w.verdict); return !ok })
		})
	}
}

// workers are the pids of those that there are now, by id.
func (w *silentWorkers) workers() map[string]int {
	var s struct {
		Pools []struct {
			Workers []struct {
				ID  string
				PID int
			}
		}
	}
	w.agent.Status(&s)
	all := map[string]int{}
	for _, p := range s.Pools {
		for _, one := range p.Workers {
			all[one.ID] = one.PID
		}
	}
	return all
}

// meet pins the workers that are new.
func (w *silentWorkers) meet() {
	for id, pid := range w.workers() {
		if w.pinned[id] == nil && pid != 0 {
			w.pinned[id] = w.pin(pid)
		}
	}
}

// occupy begins a call of the tool and learns which worker runs it.
func (w *silentWorkers) occupy() {
	w.meet()
	f := &faulty{at: time.Now(), call: w.begin(w.tool, `{"seconds": 3600}`)}
	w.Until("a worker for the call", func() bool {
		calls, err := w.agent.Client().Calls(w.ctx, "p")
		w.Must(err)
		for _, c := range calls {
			if c.Tool == w.tool && c.Worker != "" && !slices.ContainsFunc(w.faulty, func(f *faulty) bool { return f.worker == c.Worker }) {
				f.worker = c.Worker
			}
		}
		return f.worker != ""
	})
	if w.pinned[f.worker] == nil {
		w.meet() // a substitute that has come since
	}
	f.process = w.pinned[f.worker]
	f.process.watch()
	w.faulty = append(w.faulty, f)
}

// begin starts a call that lasts until its worker or the round ends.
func (w *silentWorkers) begin(tool, args string) *toolCall {
	if tool != "pause" {
		args = "{}"
	}
	ctx, cancel := context.WithCancel(w.ctx)
	k := &toolCall{done: make(chan struct{})}
	c := w.agent.Client()
	go func() {
		defer close(k.done)
		_, k.err = c.CallRaw(ctx, client.Request{Pool: "p", Tool: tool, Args: client.Value{JSON: []byte(args)}, Timeout: 2 * time.Hour})
	}()
	w.Cleanup(func() { cancel(); <-k.done })
	return k
}

// callAllTheTime sends short calls from now on until stop, which lets the last ones end: that of a caller who leaves costs its worker.
func (w *silentWorkers) callAllTheTime() (stop func()) {
	ctx, cancel := context.WithCancel(w.ctx)
	c := w.agent.Client()
	var all sync.WaitGroup
	for range spares {
		all.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				began := time.Now()
				result, err := c.CallRaw(w.ctx, client.Request{Pool: "p", Tool: "who", Timeout: 2 * patience})
				worker := result.Worker
				if err != nil {
					var e *client.Error
					if errors.As(err, &e) {
						worker = e.Worker
					}
					w.Errorf("a short call failed: %v", err)
				}
				w.mu.Lock()
				w.served[worker] = append(w.served[worker], began)
				w.mu.Unlock()
				<-tick.C
			}
		})
	}
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); all.Wait() }) }
	w.Cleanup(stop)
	return stop
}

// judge waits for the death of all and looks at each.
func (w *silentWorkers) judge() {
	slack := 3 * time.Second
	if w.loaded {
		slack = 20 * time.Second
	}
	w.within(w.kill+2*patience, "end of all that are silent", func() bool {
		return !slices.ContainsFunc(w.faulty, func(f *faulty) bool { return !f.process.Gone(0) })
	})
	var verdicts, substitutes, kills []time.Duration
	for _, f := range w.faulty {
		<-f.process.watched
		judged, substitute, killed := w.one(f, slack)
		verdicts, substitutes, kills = append(verdicts, judged), append(substitutes, substitute), append(kills, killed)
	}
	w.Note("%d × %s: verdict after %s", len(kills), w.verdict, spread(verdicts))
	w.Note("%d × %s: substitute started after %s", len(kills), w.verdict, spread(substitutes))
	w.Note("%d × %s: killed after %s", len(kills), w.verdict, spread(kills))
}

// one is what has to hold for each: the verdict with its evidence, the substitute, no further call, the kill, the stack.
func (w *silentWorkers) one(f *faulty, slack time.Duration) (judged, substitute, killed time.Duration) {
	killed = f.process.died.Sub(f.at)
	verdict, ok := w.events.verdict(f.worker, w.silence.verdict)
	if !ok || !strings.Contains(verdict.Evidence, w.evidence) {
		w.Errorf("%s was never %s by %q: %+v", f.worker, w.silence.verdict, w.evidence, verdict)
		return 0, 0, killed
	}
	judged = verdict.at.Sub(f.at)
	started := w.events.find(func(h *happening) bool {
		return h.name == "worker.started" && h.index() == indexOf(f.worker) && h.Worker != f.worker && h.at.After(f.at)
	})
	if len(started) == 0 {
		w.Errorf("no substitute of %s", f.worker)
	} else if substitute = started[0].at.Sub(f.at); substitute > substituteBound {
		w.Errorf("the substitute of %s was started after %s: %s", f.worker, substitute, w.history(f))
	}
	w.mu.Lock()
	for _, began := range w.served[f.worker] {
		if began.After(verdict.at) {
			w.Errorf("%s was sent a call %s after its verdict", f.worker, began.Sub(verdict.at))
		}
	}
	w.mu.Unlock()
	since := f.at
	if w.silence.verdict == "held" {
		since = verdict.at
	}
	// The silence begins with a ping that may have been under way when it fell silent, and at the latest an interval later.
	if after := f.process.died.Sub(since); after < w.kill-time.Second || after > w.kill+slack {
		w.Errorf("%s was killed after %s, its limit is %s: %s", f.worker, after, w.kill, w.history(f))
	}
	w.told(f)
	return judged, substitute, killed
}

// history is what the agent said of a worker, for whoever has to find out why.
func (w *silentWorkers) history(f *faulty) string {
	var text strings.Builder
	for _, h := range w.events.find(func(h *happening) bool { return h.index() == indexOf(f.worker) && h.at.After(f.at) }) {
		fmt.Fprintf(&text, "\n\t%s %s %s", h.at.Sub(f.at).Round(time.Millisecond), h.Worker, h.name)
		if h.To != "" {
			fmt.Fprintf(&text, " %s → %s (%s)", h.From, h.To, h.Evidence)
		}
	}
	return text.String()
}

// told is what the caller is told.
func (w *silentWorkers) told(f *faulty) {
	if f.call == nil {
		return
	}
	<-f.call.done
	var e *client.Error
	if !errors.As(f.call.err, &e) || e.Reason != client.WorkerDied || e.Worker != f.worker || !strings.Contains(e.Message, w.silence.verdict) {
		w.Errorf("the caller of %s was told %v", f.worker, f.call.err)
		return
	}
	if !strings.Contains(e.Traceback, "in "+w.tool) {
		w.Errorf("the error of %s has no stack of %s: %q", f.worker, w.tool, e.Traceback)
	}
}

// spread sums up times for a note.
func spread(all []time.Duration) string {
	if len(all) == 0 {
		return "-"
	}
	all = slices.Sorted(slices.Values(all))
	at := func(share int) time.Duration { return all[(len(all)*share+99)/100-1].Round(time.Millisecond) }
	return fmt.Sprintf("min %s, p50 %s, p99 %s, max %s", all[0].Round(time.Millisecond), at(50), at(99), at(100))
}
