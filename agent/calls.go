package agent

import (
	"fmt"
	"slices"
	"time"
)

// CallInfo is one call that has not ended.
type CallInfo struct {
	Call   uint64
	Pool   string
	Tool   string
	State  string // queued or running
	Worker string // empty while it waits
	Age    time.Duration
	Left   time.Duration // until its deadline; below 0 while its worker is being killed for it
}

// Calls lists the calls that wait or run, oldest first, of one pool or of all for an empty name.
func (a *Agent) Calls(pool string) ([]CallInfo, error) {
	if pool != "" && a.pool(pool) == nil {
		_, e := a.choosePool(&Request{Pool: pool})
		return nil, e
	}
	now := time.Now()
	var list []CallInfo
	for _, t := range a.outcomes.list() {
		if pool != "" && t.pool.name != pool {
			continue
		}
		place := t.where()
		info := CallInfo{Call: t.id, Pool: t.pool.name, Tool: t.tool, State: "queued", Worker: place.worker, Age: now.Sub(t.came), Left: t.deadline.Sub(now)}
		if !place.began.IsZero() {
			info.State = "running"
		}
		list = append(list, info)
	}
	slices.SortFunc(list, func(x, y CallInfo) int { return int(min(max(int64(x.Call)-int64(y.Call), -1), 1)) })
	return list, nil
}

// Explain tells how a call ended, or that it waits or runs.
func (a *Agent) Explain(call uint64) (Outcome, error) {
	t, ended := a.outcomes.find(call)
	switch {
	case ended != nil:
		return *ended, nil
	case t != nil:
		return *t.outcome(t.where(), time.Now()), nil
	}
	return Outcome{}, unknownCall(call)
}

func unknownCall(call uint64) *Error {
	return &Error{Reason: UnknownCall, Call: call, Message: fmt.Sprintf(
		"no call %d is known: the last %d outcomes are kept, and ids do not survive a restart of the agent", call, keptOutcomes)}
}

// CancelCall ends a call: one that waits leaves the queue ("queue"), the worker of one that runs is killed ("kill").
func (a *Agent) CancelCall(call uint64) (endedBy string, err error) {
	t, ended := a.outcomes.find(call)
	if t == nil && ended == nil {
		return "", unknownCall(call)
	}
	if ended == nil {
		if endedBy = t.pool.cancel(t); endedBy != "" {
			return endedBy, nil
		}
	}
	return "", &Error{Reason: UnknownCall, Call: call, Message: fmt.Sprintf("call %d has ended already; `pitboss explain %d` tells how", call, call)}
}

// where is the place of a call now.
func (t *ticket) where() ticketPlace {
	t.pool.mu.Lock()
	defer t.pool.mu.Unlock()
	return t.place
}

// cancel ends a call for an administrator; it returns "" for one whose last word is said.
func (p *pool) cancel(t *ticket) (endedBy string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.place.answered {
		return ""
	}
	t.place.cancelled = true
	if w := p.workers[t.place.worker]; w != nil && w.shown.current != nil && w.shown.current.ticket == t {
		p.transition(w, eventKill)
		w.shown.condemned = true // an answer that is still in its socket is none: what is said here holds
		w.order(endOrder{stage: endKill, why: fmt.Sprintf("an administrator cancelled call %d", t.id), dump: true})
		return "kill"
	}
	if i := slices.IndexFunc(p.queue, func(wt *waiter) bool { return wt.call.ticket == t }); i >= 0 {
		p.queue[i].failed <- p.cancelled(t)
		p.queue = slices.Delete(p.queue, i, i+1)
		p.rejected++
	}
	// Else it is on its way into the queue or back to it: acquire and carry look at place.cancelled.
	return "queue"
}

// cancelled is the outcome of a call that never began; p.mu is held.
func (p *pool) cancelled(t *ticket) *Error {
	return &Error{Reason: CancelledByAdmin, Pool: p.name, Tool: t.tool, Call: t.id,
		Message: fmt.Sprintf("an administrator cancelled the call to %q before it began; it never ran", t.tool)}
}

// cancelledRunning is the outcome of a call whose worker was killed for it.
func (p *pool) cancelledRunning(w *worker, c *call, died *Error) *Error {
	return &Error{Reason: CancelledByAdmin, Pool: p.name, Worker: w.id, Tool: c.tool, Call: c.id, MayHaveRun: true,
		PostMortem: died.PostMortem, Traceback: died.Traceback,
		Message: fmt.Sprintf("an administrator cancelled the call to %q; its worker %s was killed and is being replaced", c.tool, w.id)}
}
