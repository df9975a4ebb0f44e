package chaos

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
)

// happening is one event of an agent, with the fields that verdicts are judged by.
type happening struct {
	at                               time.Time // by the agent's own stamp: on a loaded host it arrives seconds later, in a heap
	name                             string
	Pool, Worker, From, To, Evidence string
	End, Stack                       string
	PID                              int
	StartTime                        uint64 `json:"start_time"`
}

// index is the worker's place in its pool: a substitute and a successor have it too.
func (h *happening) index() string { return indexOf(h.Worker) }

func indexOf(worker string) string {
	if i := strings.LastIndexByte(worker, '.'); i >= 0 {
		return worker[:i]
	}
	return worker
}

// timeline keeps every event of an agent that tells of workers.
type timeline struct {
	mu    sync.Mutex // guards the following
	all   []happening
	seq   uint64 // of the last event that was taken
	lost  uint64
	broke int   // how often the stream was taken up again: a starved reader's connection is closed
	err   error // why it ended; nil while it goes on, and when the agent ended
}

// maxBreaks is how often a stream is taken up again; the agent keeps its last 1 000 events, so nothing is lost by one.
const maxBreaks = 100

// follow reads the agent's events from its first to its last, or to the end of the round.
func (a *Agent) follow() *timeline {
	t := &timeline{}
	ctx, cancel := context.WithCancel(a.round.ctx)
	c := a.Client()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for t.goesOn(ctx, c.Events(ctx, "", true, t.take)) {
			select {
			case <-time.After(time.Second): // a connection that was closed is made anew in about that time
			case <-ctx.Done():
			}
		}
	}()
	a.round.Cleanup(func() { cancel(); <-ended })
	return t
}

// take keeps an event, unless an earlier stream has brought it.
func (t *timeline) take(e client.Event) error {
	now := time.Now()
	h := happening{at: now.Add(-now.Sub(e.Time)), name: e.Name} // by the wall clock to the monotonic one
	err := json.Unmarshal(e.Fields, &h)
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Seq <= t.seq {
		return nil
	}
	t.lost += e.Lost
	if t.broke > 0 && e.Lost == 0 {
		t.lost += e.Seq - t.seq - 1 // it fell out of what the agent keeps
	}
	t.seq = e.Seq
	if strings.HasPrefix(e.Name, "heartbeat.") || strings.HasPrefix(e.Name, "worker.") {
		t.all = append(t.all, h)
	}
	return err
}

// goesOn says whether a stream that ended with err is to be taken up again.
func (t *timeline) goesOn(ctx context.Context, err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ctx.Err() != nil || err == nil {
		return false
	}
	if t.broke++; t.broke > maxBreaks {
		t.err = err
		return false
	}
	return true
}

// over says that no further event will come although the agent may live.
func (t *timeline) over() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// find lists what fits, in its order.
func (t *timeline) find(fits func(*happening) bool) []happening {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found []happening
	for i := range t.all {
		if fits(&t.all[i]) {
			found = append(found, t.all[i])
		}
	}
	return found
}

// verdict is the first change of a worker's verdict to this one.
func (t *timeline) verdict(worker, to string) (happening, bool) {
	found := t.find(func(h *happening) bool { return h.name == "heartbeat.verdict" && h.Worker == worker && h.To == to })
	if len(found) == 0 {
		return happening{}, false
	}
	return found[0], true
}

// whole fails the round if an event was lost, or if a verdict has no evidence.
func (t *timeline) whole(r *Round) {
	t.mu.Lock()
	if t.lost > 0 || t.err != nil {
		r.Errorf("%d events were lost; the stream ended with %v", t.lost, t.err)
	}
	t.mu.Unlock()
	for _, h := range t.find(func(h *happening) bool { return h.name == "heartbeat.verdict" && h.Evidence == "" }) {
		r.Errorf("no evidence for the verdict %s of %s", h.To, h.Worker)
	}
}

// spared counts every worker that ended before now and is not in expected as killed without need.
func (t *timeline) spared(r *Round, expected map[string]bool) {
	for _, h := range t.find(func(h *happening) bool { return h.name == "worker.exited" && !expected[h.Worker] }) {
		r.FalseKill("worker %s: %s; %s", h.Worker, h.End, h.Evidence)
	}
}
