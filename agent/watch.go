package agent

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/pitboss-run/pitboss/heartbeat"
	"github.com/pitboss-run/pitboss/ipc"
)

// suspendSlack is the difference of the two clocks' advance from which the host counts as suspended.
const suspendSlack = 100 * time.Millisecond

// beatGrid is what the turns of all workers are rounded up to, so that those of a large pool share a wake-up of the agent. A wake-up costs
// several times what a ping does: 1 000 idle workers took 15 % of a core with a time for each, 4 to 5 % with this. It is below the jitter
// of the shortest interval and a tenth of the lateness at which a turn is not judged.
const beatGrid = 50 * time.Millisecond

// watch is a worker's heartbeat: it gathers what the pure monitor judges by and carries out what it decides. It belongs
// to the worker's run goroutine.
type watch struct {
	worker     *worker
	monitor    *heartbeat.Monitor // nil until READY
	before     heartbeat.Sample   // of the turn before; for the start deadline too
	slept      time.Duration
	controlTID int
	ready      bool
	missed     int                     // pings in a row, at the turn before
	waiting    map[uint64]explicitPing // pings that somebody asked for, by stamp
}

type explicitPing struct {
	answer chan<- Pong
	sent   time.Time
}

func newWatch(w *worker) *watch {
	return &watch{worker: w, slept: sleptFor(), waiting: map[uint64]explicitPing{},
		before: sampleProcess(w.process.pid, w.pool.agent.uptime())}
}

// begin starts the heartbeat of a worker that says it is ready. With heartbeats off one ping still proves readiness.
func (h *watch) begin(now time.Time) {
	cfg := h.worker.cfg.Heartbeat.detector()
	cfg.InitialDelay, h.before = 0, heartbeat.Sample{}
	h.monitor = heartbeat.New(cfg, h.worker.pool.agent.uptime(), rand.Float64)
	h.turn(now)
}

// turn is one turn of the monitor.
func (h *watch) turn(time.Time) {
	if h.monitor == nil {
		return
	}
	now := h.worker.pool.agent.uptime()
	if now < h.monitor.Due() {
		h.schedule()
		return
	}
	slept := sleptFor()
	suspended := slept-h.slept > suspendSlack
	h.slept = slept
	evidence := heartbeat.Evidence{}
	if h.monitor.Unanswered() {
		evidence = h.evidence(now, suspended)
		h.before = evidence.Now
	} else {
		h.before = heartbeat.Sample{}
	}
	h.carryOut(h.monitor.Turn(now, evidence), now)
}

func (h *watch) evidence(now time.Duration, suspended bool) heartbeat.Evidence {
	return heartbeat.Evidence{InFlight: h.worker.callInFlight() != 0, ControlTID: h.controlTID,
		Before: h.before, Now: sampleProcess(h.worker.process.pid, now), Suspended: suspended}
}

func (h *watch) carryOut(d heartbeat.Decision, now time.Duration) {
	w := h.worker
	if d.Action == heartbeat.Hold {
		w.pool.hold(w) // before it is told: whoever has read the verdict sees no call sent after it
	}
	if d.Changed && d.From != heartbeat.Unknown {
		w.emit(heartbeatVerdict, slog.String("from", d.From.String()), slog.String("to", d.To.String()), slog.String("evidence", d.Why))
	}
	switch d.Action {
	case heartbeat.Welcome:
		w.pool.welcome(w)
	case heartbeat.Kill:
		w.escalate(endOrder{stage: endKill, why: fmt.Sprintf("heartbeat: %s: %s", d.To, d.Why), evidence: d.Why, dump: true}, time.Now())
		return
	case heartbeat.Tell:
		w.emit(heartbeatReported, slog.String("evidence", d.Why))
	case heartbeat.None, heartbeat.Hold:
	}
	if d.Ping {
		h.send(uint64(now))
	}
	h.schedule()
	h.show(now)
}

func (h *watch) send(stamp uint64) {
	if err := h.worker.link.sendControl(&ipc.Frame{Type: ipc.Ping, Call: stamp}); err != nil {
		h.worker.handleCut(fmt.Errorf("control socket: %w", err), time.Now())
	}
}

// schedule sets the time of the next turn; without heartbeats there is none after the first answer.
func (h *watch) schedule() {
	if h.ready && !h.worker.cfg.Heartbeat.Enabled {
		h.worker.life.deadlines.beat = time.Time{}
		return
	}
	h.worker.life.deadlines.beat = h.worker.pool.agent.born.Add(shared(h.monitor.Due()))
}

// shared is the first beatGrid at or after a time.
func shared(due time.Duration) time.Duration { return (due + beatGrid - 1).Truncate(beatGrid) }

// answered takes a PONG.
func (h *watch) answered(stamp uint64, body pongBody, _ time.Time) {
	now := h.worker.pool.agent.uptime()
	if asked, ok := h.waiting[stamp]; ok {
		delete(h.waiting, stamp)
		asked.answer <- Pong{Worker: h.worker.id, PID: h.worker.process.pid, RTT: time.Since(asked.sent), Calls: body.Calls,
			Verdict: h.verdict(now)}
		return
	}
	if h.monitor == nil || h.worker.life.stage >= endKill { // the dump of its stack wakes one that is stopped
		return
	}
	h.controlTID = body.ControlTID
	d, ok := h.monitor.Answered(time.Duration(stamp), now)
	if !ok {
		return
	}
	if !h.ready {
		h.ready = true
		h.worker.becameReady()
	}
	h.carryOut(d, now)
}

func (h *watch) verdict(now time.Duration) string {
	if h.monitor == nil {
		return heartbeat.Unknown.String()
	}
	return h.monitor.Status(now).Verdict.String()
}

// explicit sends a ping that somebody asked for. Its stamp has the top bit set, so it is never one of the monitor's.
func (h *watch) explicit(answer chan<- Pong, now time.Time) {
	stamp := uint64(h.worker.pool.agent.uptime()) | 1<<63
	h.waiting[stamp] = explicitPing{answer, now}
	h.send(stamp)
}

// progressed says whether the process did anything since the last time it was asked: for the start deadline.
func (h *watch) progressed(time.Time) bool {
	sample := sampleProcess(h.worker.process.pid, h.worker.pool.agent.uptime())
	e := heartbeat.Evidence{Before: h.before, Now: sample, ControlTID: h.controlTID}
	h.before = sample
	return e.Progress() != ""
}

func (h *watch) show(now time.Duration) {
	s := h.monitor.Status(now)
	if s.Missed > h.missed {
		h.worker.emit(heartbeatMissed, slog.Int("missed", s.Missed))
	}
	h.missed = s.Missed
	h.worker.pool.showHeartbeat(h.worker, HeartbeatStatus{Verdict: s.Verdict.String(), Missed: s.Missed,
		RTTMS: float64(s.RTT.Microseconds()) / 1000, LastPongAgeS: s.LastPong.Seconds()})
}
