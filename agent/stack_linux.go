package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// stackLimit bounds the wait for the stacks that somebody asked for.
const stackLimit = 3 * time.Second

// dump gets the Python stack of the main thread of a worker that is about to be killed, or as much of it as came within limit. One that
// is stopped goes on for that moment: the signal handler comes before any of its own code.
func (w *worker) dump(limit time.Duration) string {
	text, _ := w.crash.dump(w.process, w.dumpSignal, w.dead, limit, func() {
		if state, _, _ := readStat(filepath.Join("/proc", strconv.Itoa(w.process.pid), "stat")); state == 'T' {
			_ = w.process.signal(syscall.SIGCONT)
		}
	})
	return text
}

// Stack returns the Python stack of the main thread of one worker, where calls run, as faulthandler writes it. The worker need not do anything
// for it, and its call goes on: Python and the kernel (SA_RESTART) take up again what the signal interrupts. Only a C library
// that sleeps in nanosleep(2) and the like, and does not look whether it slept enough, wakes early.
func (a *Agent) Stack(ctx context.Context, id string) (string, error) {
	w, e := a.runningWorker(id)
	if e != nil {
		return "", e
	}
	// The handler is installed by the new process itself; before, and after user code has removed it, the signal would kill.
	if !catches(w.process.pid, w.dumpSignal) {
		return "", &Error{Reason: UnknownWorker, Worker: id, Message: fmt.Sprintf("worker %s takes no request for its stacks: it has just started, or is ending", id)}
	}
	limit := stackLimit
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline))
	}
	text, complete := w.crash.dump(w.process, w.dumpSignal, w.dead, limit, nil)
	if complete {
		return text, nil
	}
	select {
	case <-w.dead:
		return "", &Error{Reason: WorkerDied, Worker: id, Message: fmt.Sprintf("worker %s ended before its stacks were written", id)}
	default:
	}
	state, _, _ := readStat(filepath.Join("/proc", strconv.Itoa(w.process.pid), "stat"))
	hint := "the host may be overloaded; try again"
	if state == 'T' || state == 't' {
		hint = "it is stopped; let it go on with `kill -CONT " + strconv.Itoa(w.process.pid) + "`"
	}
	return "", &Error{Reason: CallTimeout, Worker: id, Message: fmt.Sprintf("worker %s did not write its stacks within %s; %s", id, limit.Round(time.Millisecond), hint)}
}

// runningWorker finds a worker that has a process.
func (a *Agent) runningWorker(id string) (*worker, *Error) {
	for _, p := range a.allPools() {
		p.mu.Lock()
		w := p.workers[id]
		started := w != nil && w.shown.pid != 0 // what the worker's loop has set is seen once pid is shown under the lock
		p.mu.Unlock()
		switch {
		case started:
			return w, nil
		case w != nil:
			return nil, &Error{Reason: UnknownWorker, Worker: id, Message: fmt.Sprintf("worker %s has no process yet: it is starting", id)}
		}
	}
	return nil, &Error{Reason: UnknownWorker, Worker: id, Message: fmt.Sprintf("no worker is named %q%s; `pitboss status` lists them", id, nearName(id, a.workerNames()))}
}

// catches says whether a process has a handler for sig (SigCgt of /proc/PID/status, proc(5)).
func catches(pid, sig int) bool {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil || sig < 1 {
		return false
	}
	for line := range strings.Lines(string(text)) {
		if mask, ok := strings.CutPrefix(line, "SigCgt:"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			return err == nil && bits&(1<<(sig-1)) != 0
		}
	}
	return false
}
