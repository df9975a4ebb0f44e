package agent

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// keptOutcomes is how many outcomes are kept, the last ones.
	keptOutcomes = 10_000
	// The bounds of what one outcome keeps, in bytes: with the names it stays below 7 KiB, all of them below 70 MB even if
	// every call fails at length; 10 000 successes are about 4 MB.
	maxOutcomeName      = 256
	maxOutcomeText      = 512 // message; killer, evidence and tool of the post-mortem
	maxOutcomeTraceback = 2 << 10
	maxOutcomeOutput    = 1 << 10
	maxOutcomeData      = 1 << 10
)

// Outcome is what `explain` tells of one call. Fields are only ever added.
type Outcome struct {
	Call  uint64 `json:"call"`
	Pool  string `json:"pool"`
	Tool  string `json:"tool"`
	State string `json:"state"` // queued, running or ended
	// Worker ran the call; empty while, or if, nobody did. Began is when it was handed over.
	Worker string     `json:"worker,omitempty"`
	CameIn time.Time  `json:"came_in"`
	Began  *time.Time `json:"began,omitempty"`
	// QueuedS and RanS are the seconds that it waited for a worker and ran on it, so far while it has not ended.
	QueuedS float64 `json:"queued_s"`
	RanS    float64 `json:"ran_s"`
	// Reason is OK or why it failed, Message and Traceback as its client got them but shorter.
	Reason     string `json:"reason,omitempty"`
	Message    string `json:"message,omitempty"`
	MayHaveRun bool   `json:"may_have_run"`
	// EndedBy is "result"; "queue": it never began; "exception": the tool or its worker refused or raised; "kill": its
	// worker's process ended, by whomever.
	EndedBy string `json:"ended_by,omitempty"`
	// ToolReason is the tool's own reason, Data what it attached; Data over 1 KiB is not kept, DataBytes is its size then.
	ToolReason string          `json:"tool_reason,omitempty"`
	Data       json.RawMessage `json:"data,omitempty"`
	DataBytes  int             `json:"data_bytes,omitempty"`
	PostMortem *PostMortem     `json:"post_mortem,omitempty"`
	Traceback  string          `json:"traceback,omitempty"`
}

// reasonOK is the Reason of a call that has a result.
const reasonOK = "OK"

// ticket is one call of a client from its coming in to its outcome, over all tries to hand it to a worker.
type ticket struct {
	id       uint64
	pool     *pool
	tool     string
	came     time.Time
	deadline time.Time

	place   ticketPlace   // guarded by pool.mu
	cleanUp time.Duration // guarded by outcomes.mu: of its worker's tree
}

// ticketPlace is where a call is.
type ticketPlace struct {
	worker    string
	began     time.Time
	answered  bool // its worker has said the last word
	cancelled bool // by an administrator
}

// outcomes knows every call that has not ended, and how the last ones did.
type outcomes struct {
	mu    sync.Mutex
	open  map[uint64]*ticket
	ended *simplelru.LRU[uint64, *Outcome]
}

func newOutcomes(kept int) *outcomes {
	ended, err := simplelru.NewLRU[uint64, *Outcome](kept, nil)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &outcomes{open: map[uint64]*ticket{}, ended: ended}
}

func (o *outcomes) begin(t *ticket) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open[t.id] = t
}

// end records how a call ended: err is nil for a result.
func (o *outcomes) end(t *ticket, place ticketPlace, err error) {
	out := t.outcome(place, time.Now())
	out.State = "ended"
	out.close(err)
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.open, t.id)
	if out.PostMortem != nil {
		out.PostMortem.setCleanUp(t.cleanUp)
	}
	o.ended.Add(t.id, out)
}

// cleanedUp adds what is known only after the caller has its answer: how long the worker's tree took to be proven empty.
func (o *outcomes) cleanedUp(call uint64, took time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if t := o.open[call]; t != nil {
		t.cleanUp = took
	} else if out, ok := o.ended.Peek(call); ok && out.PostMortem != nil {
		pm := *out.PostMortem // whoever explains it now reads the one before
		pm.setCleanUp(took)
		changed := *out
		changed.PostMortem = &pm
		o.ended.Add(call, &changed)
	}
}

// find returns a call that has not ended, or the outcome of one that has; neither when nobody knows it.
func (o *outcomes) find(call uint64) (*ticket, *Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if t := o.open[call]; t != nil {
		return t, nil
	}
	out, _ := o.ended.Peek(call)
	return nil, out
}

func (o *outcomes) list() []*ticket {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := make([]*ticket, 0, len(o.open))
	for _, t := range o.open {
		list = append(list, t)
	}
	return list
}

// outcome is what there is to tell at a time before the end.
func (t *ticket) outcome(place ticketPlace, now time.Time) *Outcome {
	out := &Outcome{Call: t.id, Pool: t.pool.name, Tool: cutBack(t.tool, maxOutcomeName), State: "queued", CameIn: t.came.Round(0),
		Worker: place.worker, QueuedS: now.Sub(t.came).Seconds()}
	if !place.began.IsZero() {
		began := place.began.Round(0)
		out.State, out.Began = "running", &began
		out.QueuedS, out.RanS = place.began.Sub(t.came).Seconds(), now.Sub(place.began).Seconds()
	}
	return out
}

// close sets how it ended, and cuts what the client got whole to what is kept.
func (out *Outcome) close(err error) {
	if err == nil {
		out.Reason, out.EndedBy, out.MayHaveRun = reasonOK, "result", true
		return
	}
	e := asError(err, out.Pool)
	out.Reason, out.MayHaveRun = string(e.Reason), e.MayHaveRun
	out.Message = strings.Clone(cutBack(e.Message, maxOutcomeText))
	cut := cutFront
	if e.PostMortem != nil {
		cut = cutBack
	}
	out.Traceback = strings.Clone(cut(e.Traceback, maxOutcomeTraceback))
	out.ToolReason = strings.Clone(cutBack(e.ToolReason, maxOutcomeName))
	if len(e.Data) <= maxOutcomeData {
		out.Data = bytes.Clone(e.Data)
	} else {
		out.DataBytes = len(e.Data)
	}
	out.EndedBy = "exception"
	switch {
	case out.Began == nil:
		out.EndedBy = "queue"
	case e.Reason == CallTimeout, e.Reason == CallCancelled, e.Reason == CancelledByAdmin, e.Reason == WorkerDied:
		out.EndedBy = "kill"
	}
	if e.PostMortem != nil {
		out.PostMortem = e.PostMortem.forOutcome()
	}
}

// forOutcome is a bounded copy; the stack is the outcome's traceback.
func (p *PostMortem) forOutcome() *PostMortem {
	pm := *p
	pm.Stack, pm.Output = "", nil
	pm.Tool, pm.Killer, pm.Evidence = cutBack(pm.Tool, maxOutcomeName), cutBack(pm.Killer, maxOutcomeText), cutBack(pm.Evidence, maxOutcomeText)
	room := maxOutcomeOutput
	for i := len(p.Output) - 1; i >= 0 && room > len("…"); i-- { // the newest say most
		line := strings.Clone(cutBack(p.Output[i], room))
		pm.Output = append([]string{line}, pm.Output...)
		room -= len(line) + 1
	}
	return &pm
}

func (p *PostMortem) setCleanUp(took time.Duration) {
	if took > 0 {
		p.CleanUpMS = float64(took.Microseconds()) / 1000
	}
}
