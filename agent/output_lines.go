package agent

import (
	"context"
	"fmt"
	"time"
)

const (
	// keptOutput and keptOutputBytes bound the lines of workers and launchers that an agent keeps.
	keptOutput      = 1000
	keptOutputBytes = 1 << 20
	// lineOverhead is what a kept line costs besides its text, in bytes.
	lineOverhead = 128
)

// outputLine is one line that a worker or a launcher wrote.
type outputLine struct {
	pool, process, stream string
	call                  uint64
	text                  string
}

func (l outputLine) size() int { return len(l.text) + lineOverhead }

// Line is one line that a worker or a launcher wrote.
type Line struct {
	Time   time.Time
	Pool   string
	Worker string // id, or "launcher"
	Stream string // stdout, stderr
	Call   uint64 // that ran then; 0 for none
	Text   string
	Lost   uint64 // not 0: no line, but so many that a follower was too slow for; the rest is empty
}

// WatchLogs hands the kept lines of one pool, one worker or all to take, oldest first, and with follow those that come,
// until ctx or the agent ends or take fails.
func (a *Agent) WatchLogs(ctx context.Context, pool, worker string, follow bool, take func(Line) error) error {
	if pool != "" && a.pool(pool) == nil {
		_, e := a.choosePool(&Request{Pool: pool})
		return e
	}
	if worker != "" && !a.knowsWorker(pool, worker) {
		return &Error{Reason: UnknownWorker, Worker: worker, Message: fmt.Sprintf("no worker is named %q, and no line of one is kept; `pitboss status` lists them", worker)}
	}
	return a.lines.each(ctx.Done(), follow, func(e entry[outputLine]) error {
		l := e.value
		if (pool != "" && l.pool != pool) || (worker != "" && l.process != worker) {
			return nil
		}
		return take(Line{Time: e.time, Pool: l.pool, Worker: l.process, Stream: l.stream, Call: l.call, Text: l.text})
	}, func(n uint64) error { return take(Line{Lost: n}) })
}

// knowsWorker says whether there is such a worker, or a line of one that is gone.
func (a *Agent) knowsWorker(pool, id string) bool {
	for _, p := range a.allPools() {
		if pool != "" && p.name != pool {
			continue
		}
		p.mu.Lock()
		_, alive := p.workers[id]
		p.mu.Unlock()
		if alive || id == "launcher" {
			return true
		}
	}
	kept, _ := a.lines.read(false)
	for _, e := range kept {
		if e.value.process == id && (pool == "" || e.value.pool == pool) {
			return true
		}
	}
	return false
}
