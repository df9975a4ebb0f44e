package heartbeat

import (
	"testing"
	"time"
)

// FuzzMonitor: whatever happens, nothing panics or gets stuck; a worker that answers at once is never held, killed or
// told; a silent idle one is killed, not before max_missed misses and not after timeout and one interval more.
func FuzzMonitor(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7}, uint8(3))
	f.Add([]byte("TTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTT"), uint8(1))
	f.Fuzz(func(t *testing.T, script []byte, missed uint8) {
		cfg := defaults()
		cfg.MaxMissed = int(missed%5) + 1
		cfg.Timeout = 60 * second
		answering, silent := New(cfg, 0, nil), New(cfg, 0, nil)
		chaotic := New(cfg, 0, nil)
		before, killedAt := Sample{}, time.Duration(-1)
		for i, b := range script {
			now := answering.Due()
			if d := answering.Turn(now, Evidence{}); d.Action != None || !d.Ping {
				t.Fatalf("a healthy worker gets %v", d.Action)
			}
			if d, ok := answering.Answered(now, now+time.Duration(b)*time.Millisecond); !ok || d.Action != None || d.To != Healthy {
				t.Fatalf("a healthy worker's answer gives %v %v", d.To, d.Action)
			}
			now = silent.Due()
			sample := sampleAt(now, 'S', 0, 0)
			if d := silent.Turn(now, Evidence{ControlTID: 2, Before: before, Now: sample}); d.Action == Kill {
				killedAt = now
			}
			before = sample
			now = chaotic.Due() + time.Duration(b%7)*100*time.Millisecond
			chaotic.Turn(now, Evidence{InFlight: b&1 != 0, Suspended: b&2 != 0, Now: Sample{At: now, Readable: b&4 != 0, State: "RSDTtZ"[b%6], Frozen: b&8 != 0, ThrottledFor: time.Duration(b) * second / 100}, Before: Sample{At: now - second, Readable: b&16 != 0}})
			if b&32 != 0 && len(chaotic.pending) > 0 {
				chaotic.Answered(chaotic.pending[int(b)%len(chaotic.pending)], now)
			}
			if chaotic.Due() <= now-second || len(chaotic.pending) > maxPending {
				t.Fatalf("step %d: stuck", i)
			}
		}
		earliest := time.Duration(cfg.MaxMissed+1) * cfg.Interval / 2
		if killedAt >= 0 && (killedAt < earliest || killedAt > cfg.Timeout+cfg.Interval) {
			t.Fatalf("killed at %s with max_missed %d", killedAt, cfg.MaxMissed)
		}
		if len(script) > 40 && killedAt < 0 {
			t.Fatal("a silent worker was never killed")
		}
	})
}

// chaos turns a fuzz byte into evidence: one kind of it, or several at once.
func chaos(b byte, now, before time.Duration) Evidence {
	e := Evidence{InFlight: b&1 != 0, ControlTID: 2, Suspended: b&2 != 0 && b&4 != 0}
	e.Now = sampleAt(now, "RSDTtZ"[int(b>>3)%6], time.Duration(b>>6)*now/4, time.Duration(b>>5&1)*now)
	e.Now.Readable, e.Now.Frozen, e.Now.Traced = b%11 != 0, b%13 == 0, b%17 == 0
	if b%3 != 0 {
		e.Before = sampleAt(before, 'S', time.Duration(b>>6)*before/4, 0)
	}
	return e
}

// excusedBy says that the evidence of a turn forbids any judgement at it.
func excusedBy(e Evidence, late time.Duration) bool { return e.Suspended || late > ownSlack }

// FuzzMonitorSequence: any sequence of turns, answers and evidence keeps what the caller relies on. Kill and Tell are
// given once, never on an excused turn, and only by the config's choice; Hold once until Welcome, Welcome only after
// Hold; a ping only if it is counted; never more than maxPending of them; the next turn is always ahead, and not
// further than one interval; the verdict told is the verdict had.
func FuzzMonitorSequence(f *testing.F) {
	f.Add([]byte("a silent worker, then an answer"), uint8(3), false)
	f.Add([]byte{8, 24, 24, 24, 24, 24, 24, 255, 24, 24, 24, 24, 24}, uint8(1), true)
	f.Fuzz(func(t *testing.T, script []byte, missed uint8, report bool) {
		cfg := Default()
		cfg.MaxMissed = int(missed%10) + 1
		cfg.Timeout = 30 * second
		if report {
			cfg.OnLost = Report
		}
		at := 0
		m := New(cfg, 0, func() float64 { at++; return float64(at%7) / 7 })
		verdict, holding, ended := Unknown, false, false
		before := time.Duration(0)
		check := func(i int, now time.Duration, d Decision, answered bool) {
			if d.From != verdict || d.Changed != (d.From != d.To) {
				t.Fatalf("step %d: from %v to %v, was %v", i, d.From, d.To, verdict)
			}
			verdict = d.To
			switch d.Action {
			case Kill, Tell:
				if ended || answered || (d.Action == Tell) != report {
					t.Fatalf("step %d: %v after the end %v, at an answer %v", i, d.Action, ended, answered)
				}
				ended = true
			case Hold:
				if holding || answered || (verdict != Held && verdict != Blocked) {
					t.Fatalf("step %d: hold while holding %v, verdict %v", i, holding, verdict)
				}
				holding = true
			case Welcome:
				if !holding || !answered || ended || verdict != Healthy {
					t.Fatalf("step %d: welcome while holding %v", i, holding)
				}
				holding = false
			}
			if len(m.pending) > maxPending || d.Ping && m.pending[len(m.pending)-1] != now {
				t.Fatalf("step %d: %d pings are out, ping %v", i, len(m.pending), d.Ping)
			}
			if due := m.Due(); due <= now && !answered || due > now+cfg.Interval*3/2 {
				t.Fatalf("step %d at %s: next turn at %s", i, now, due)
			}
			if s := m.Status(now); s.Verdict != verdict || s.Missed < 0 {
				t.Fatalf("step %d: status %+v, verdict %v", i, s, verdict)
			}
		}
		now := time.Duration(0)
		for i, b := range script {
			if b >= 240 && len(m.pending) > 0 {
				stamp := m.pending[int(b)%len(m.pending)]
				now += time.Millisecond
				d, ok := m.Answered(stamp, now)
				if !ok || d.To != Healthy || m.missed != 0 {
					t.Fatalf("step %d: an answer gives %v", i, d)
				}
				check(i, now, d, true)
				continue
			}
			due := m.Due()
			now = max(now, due) + time.Duration(b%5)*200*time.Millisecond
			e, judged := chaos(b, now, before), m.Unanswered()
			d := m.Turn(now, e)
			check(i, now, d, false)
			if judged && excusedBy(e, now-due) && (d.Action == Kill || d.Action == Tell || d.To == Lost) {
				t.Fatalf("step %d: %v although excused (%s)", i, d.Action, d.Why)
			}
			before = now
		}
	})
}
