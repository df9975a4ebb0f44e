package chaos

import (
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// heldWorker: something keeps a worker from running and lets it go before the limit: held with its reason, a substitute, then back to
// ready. The call in whose middle it was has its own answer.
func heldWorker(r *Round, evidence string, hold func(pid int) (letGo func())) {
	w, before := startBeating(r, time.Minute)
	idle, inCall := &faulty{}, &faulty{at: time.Now(), call: w.begin("pause", `{"seconds": 10}`)}
	w.Until("a worker for the call", func() bool {
		calls, err := w.agent.Client().Calls(r.ctx, "p")
		if err == nil && len(calls) == 1 {
			inCall.worker = calls[0].Worker
		}
		return inCall.worker != ""
	})
	for id, pid := range before {
		f := inCall
		if id != inCall.worker {
			f = idle
		}
		f.worker, f.process = id, r.pin(pid)
	}
	var letGo []func()
	for _, f := range []*faulty{idle, inCall} {
		letGo = append(letGo, hold(f.process.PID))
	}
	start := time.Now()
	for _, f := range []*faulty{idle, inCall} {
		w.Until("verdict held with a substitute", func() bool {
			v, held := w.events.verdict(f.worker, "held")
			if held && v.Evidence[:min(len(evidence), len(v.Evidence))] != evidence {
				r.Errorf("held by %q, want %q", v.Evidence, evidence)
			}
			return held && len(w.events.find(func(h *happening) bool {
				return h.name == "worker.started" && h.index() == indexOf(f.worker) && h.Worker != f.worker
			})) > 0
		})
	}
	r.Note("two substitutes after %s", time.Since(start).Round(time.Millisecond))
	for _, f := range letGo {
		f()
	}
	for _, f := range []*faulty{idle, inCall} {
		w.Until("verdict healthy", func() bool {
			return len(w.events.find(func(h *happening) bool {
				return h.name == "heartbeat.verdict" && h.Worker == f.worker && h.To == "healthy" && h.at.After(start)
			})) > 0
		})
		if f.process.Gone(0) {
			r.FalseKill("worker %s%s", f.worker, r.logs())
		}
	}
	if <-inCall.call.done; inCall.call.err != nil {
		r.Errorf("the call that was held: %v", inCall.call.err)
	}
	w.events.whole(r)
	// The substitutes, or those whose place they took, are ended as drained; nobody is killed by a verdict.
	for _, h := range w.events.find(func(h *happening) bool { return h.name == "worker.exited" && h.Evidence != "" }) {
		r.FalseKill("worker %s: %s; %s", h.Worker, h.End, h.Evidence)
	}
	w.stopAgent()
}

func (r *Round) holdStopped(pid int) func() {
	p := r.pin(pid)
	p.Kill(syscall.SIGSTOP)
	return func() { p.Kill(syscall.SIGCONT) }
}

// holdFrozen freezes it in a cgroup of its own.
func (r *Round) holdFrozen(version int) func(pid int) func() {
	return func(pid int) func() {
		dir, file, words := filepath.Join(r.tree.Cgroup, "frozen-"+itoa(pid)), "cgroup.freeze", [2]string{"1", "0"}
		if version == 1 {
			dir, file, words = filepath.Join(freezerV1, "pitboss-chaos-"+r.tree.Token+"-"+itoa(pid)), "freezer.state", [2]string{"FROZEN", "THAWED"}
		}
		r.Must(os.Mkdir(dir, 0o700))
		set := func(name, value string) { r.Must(os.WriteFile(filepath.Join(dir, name), []byte(value), 0o600)) }
		r.Cleanup(func() {
			set(file, words[1])
			if version == 1 { // what is in it ends with the round, or goes back to where it was
				_ = os.WriteFile(filepath.Join(freezerV1, "cgroup.procs"), []byte(itoa(pid)), 0o600)
				r.Until("removal of "+dir, func() bool { return os.Remove(dir) == nil })
			}
		})
		set("cgroup.procs", itoa(pid))
		set(file, words[0])
		return func() { set(file, words[1]) }
	}
}

const freezerV1 = "/sys/fs/cgroup/freezer"

func cannotFreezeV1(h *Host) string {
	if _, err := os.Stat(filepath.Join(freezerV1, "cgroup.procs")); err != nil {
		return "needs the freezer of cgroup v1 at " + freezerV1
	}
	return NeedsRoot(h)
}

func cannotFreeze(h *Host) string {
	if h.Cgroup != "v2" && h.Cgroup != "hybrid" {
		return "needs cgroup v2"
	}
	if dir := newCgroup("freeze-" + itoa(os.Getpid())); dir == "" {
		return "needs root, or a cgroup that was delegated to this user"
	} else if err := os.Remove(dir); err != nil {
		return err.Error()
	}
	return ""
}

// workerStarved: workers of the lowest priority there is, while every processor is wanted: idle and in calls.
func workerStarved(r *Round, lasts time.Duration) {
	w, before := startBeating(r, time.Minute)
	stop := r.load()
	for _, pid := range before {
		r.lowest(pid)
	}
	r.pass(lasts / 2) // idle
	calls := []*toolCall{w.begin("pause", `{"seconds": 1}`), w.begin("pause", `{"seconds": 1}`)}
	r.pass(lasts / 2)
	stop()
	for _, k := range calls {
		if <-k.done; k.err != nil {
			r.Errorf("a call in a starved worker: %v", k.err)
		}
	}
	starved := w.events.find(func(h *happening) bool { return h.name == "heartbeat.missed" })
	r.Note("%d pings missed", len(starved))
	w.unharmed(before)
	w.stopAgent()
}
