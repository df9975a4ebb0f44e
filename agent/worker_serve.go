package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pitboss-run/pitboss/ipc"
)

// pongBody is the json of a PONG, startFailure that of FAILED, readyBody that of READY (PROTOCOL.md §1).
type (
	pongBody struct {
		Calls      []uint64 `json:"calls"`
		Progress   uint64   `json:"progress"`
		ControlTID int      `json:"control_tid"`
	}
	startFailure struct {
		Reason    string `json:"reason"`
		Type      string `json:"type"`
		Message   string `json:"message"`
		Traceback string `json:"traceback"`
	}
	readyBody struct {
		Tools  []Tool `json:"tools"`
		Python string `json:"python"`
		PID    int    `json:"pid"`
	}
)

// serve is the loop of a worker from its start gate to its death.
func (w *worker) serve() {
	w.life.watch = newWatch(w)
	w.life.deadlines.start = time.Now().Add(w.cfg.Timeouts.Start)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		resetTimer(timer, w.life.deadlines.next())
		select {
		case <-w.dead:
			return
		case ev := <-w.events:
			w.handle(ev, time.Now())
		case o := <-w.orders:
			w.life.ordered = true
			w.escalate(o, time.Now())
			if w.life.stage == endLeave {
				return
			}
		case <-timer.C:
			w.expire(time.Now())
		}
	}
}

func resetTimer(t *time.Timer, at time.Time) {
	wait := time.Hour
	if !at.IsZero() {
		wait = max(time.Until(at), 0)
	}
	t.Reset(wait) // since Go 1.23 a reset timer never delivers an old expiry
}

// expire acts on every deadline that has passed.
func (w *worker) expire(now time.Time) {
	d := &w.life.deadlines
	passed := func(t *time.Time) bool {
		if t.IsZero() || now.Before(*t) {
			return false
		}
		*t = time.Time{}
		return true
	}
	if passed(&d.cut) {
		w.escalate(endOrder{stage: endKill, why: "link cut while the process lives"}, now)
	}
	if passed(&d.end) {
		w.overdue(now)
	}
	if passed(&d.start) {
		w.startOverdue(now)
	}
	if passed(&d.beat) {
		w.life.watch.turn(now)
	}
}

// startOverdue stretches the start deadline while the worker makes progress (a large model loads for minutes), else
// ends the start.
func (w *worker) startOverdue(now time.Time) {
	timeout := w.cfg.Timeouts.Start
	if now.Sub(w.born) < 10*timeout && w.life.watch.progressed(now) {
		w.life.deadlines.start = now.Add(timeout / 4)
		return
	}
	w.pool.mu.Lock()
	doing := w.shown.doing.String()
	w.pool.mu.Unlock()
	w.life.failure = failf(PoolFailed, "worker %s of pool %q was not ready within %s (it was %s)", w.id, w.pool.name, timeout, doing)
	w.escalate(endOrder{stage: endKill, why: fmt.Sprintf("not ready within %s", timeout), dump: true}, now)
	if w.life.stack != "" {
		w.life.failure.Traceback = w.life.stack
	}
}

func (w *worker) handle(ev workerEvent, now time.Time) {
	switch {
	case ev.frame != nil:
		w.handleFrame(ev.frame, now)
	case ev.keeper != nil:
		w.hearKeeper(ev.keeper)
	case ev.cut != nil:
		w.life.mute = w.life.mute || ev.mute
		w.handleCut(ev.cut, now)
	case ev.pong != nil:
		w.life.watch.explicit(ev.pong, now)
	}
}

// handleCut: nonsense ends the worker at once; the end of a stream only if the process does not follow it.
func (w *worker) handleCut(cut error, now time.Time) {
	var protocol *ipc.ProtocolError
	var large *ipc.TooLargeError
	if errors.As(cut, &protocol) || errors.As(cut, &large) {
		w.escalate(endOrder{stage: endKill, why: cut.Error()}, now)
		return
	}
	if !errors.Is(cut, io.EOF) {
		w.pool.log.Debug("worker's stream ended", "worker", w.id, "cause", cut)
	}
	if w.life.stage < endStop && w.life.deadlines.cut.IsZero() {
		w.life.deadlines.cut = now.Add(cutPatience)
	}
}

func (w *worker) handleFrame(f *ipc.Frame, now time.Time) {
	switch f.Type {
	case ipc.Pong:
		var body pongBody
		if err := json.Unmarshal(f.JSON, &body); err != nil {
			w.escalate(endOrder{stage: endKill, why: "unreadable PONG: " + err.Error()}, now)
			return
		}
		w.life.watch.answered(f.Call, body, now)
	case ipc.Doing:
		var body struct{ Doing string }
		_ = json.Unmarshal(f.JSON, &body)
		w.pool.showDoing(w, body.Doing)
	case ipc.Ready:
		var body readyBody
		if err := json.Unmarshal(f.JSON, &body); err != nil {
			w.escalate(endOrder{stage: endKill, why: "unreadable READY: " + err.Error()}, now)
			return
		}
		w.pool.learnTools(body.Tools)
		w.life.watch.begin(now) // the first answered ping makes it ready
	case ipc.Failed:
		w.startFailed(f)
	default:
		w.escalate(endOrder{stage: endKill, why: "protocol error: the worker sent " + f.Type.String()}, now)
	}
}

func (w *worker) startFailed(f *ipc.Frame) {
	var body startFailure
	if err := json.Unmarshal(f.JSON, &body); err != nil {
		body.Message = "unreadable FAILED: " + err.Error()
	}
	w.life.failure = &Error{Reason: PoolFailed, Pool: w.pool.name, Worker: w.id, Type: body.Type, Traceback: body.Traceback,
		Message: fmt.Sprintf("pool %q cannot start: %s: %s: %s", w.pool.name, body.Reason, body.Type, body.Message)}
}

// becameReady is called by the watch at the first answer.
func (w *worker) becameReady() {
	w.life.deadlines.start = time.Time{}
	w.pool.ready(w)
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}
