package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
)

// SoakOptions are the load that must kill nobody.
type SoakOptions struct {
	Host     *Host
	Duration time.Duration // at least a minute; the control and the start come before it
}

const (
	soakWorkers = 20
	soakBurn    = 60 * time.Second
	soakStop    = 5 * time.Second // the agent, each minute
)

// soakTools: burn stays in C all the time and so never gives the GIL back: any, map, iter and the two methods are C functions.
const soakTools = `
import os, time
import pitboss

@pitboss.tool
def who() -> int:
    return os.getpid()

@pitboss.tool
def burn(seconds: float) -> int:
    any(map((time.monotonic() + seconds).__lt__, iter(time.monotonic, None)))
    return os.getpid()
`

// Soak runs an agent of 20 workers at the defaults under 50 runnable processes per processor, with a call that holds the GIL in C for
// 60 s, short calls beside it, and an agent that is stopped for 5 s each minute. Nobody may be killed. progress is told a line a minute.
// Before that comes a control: a detector that is set to kill, and a worker that is stopped; the same count must see it.
func Soak(ctx context.Context, o SoakOptions, progress func(string)) *SoakReport {
	began := time.Now()
	rep := &SoakReport{Workers: soakWorkers, Runnable: perProcessor * o.Host.CPUs, Verdicts: map[string]int{}}
	random := rand.New(rand.NewPCG(rand.Uint64(), 0))
	control := runRound(ctx, o.Host, random, func(r *Round) { soakControl(r, rep) })
	rep.take("control: ", control)
	if !rep.ControlKill {
		rep.Failures = append(rep.Failures, "control: a kill was not counted, so the absence of one proves nothing")
	} else {
		progress("control: the kill of a stopped worker was counted")
		rep.take("", runRound(ctx, o.Host, random, func(r *Round) { (&soak{Round: r, rep: rep, progress: progress}).run(o.Duration) }))
	}
	rep.TookS = time.Since(began).Seconds()
	rep.Interrupted = ctx.Err() != nil
	rep.OK = len(rep.Failures) == 0 && !rep.Interrupted && rep.Kills == 0
	return rep
}

// soakControl: a worker that is stopped is killed after a second, which both counts must see.
func soakControl(r *Round, rep *SoakReport) {
	a := r.Start(Options{Config: "pools:\n  - {name: p, adapter: soak.py, workers: 2, heartbeat: {interval: 1s, max_missed: 1, timeout: 5s, held_limit: 1s}}\n",
		Files: map[string]string{"soak.py": soakTools}})
	a.Ready()
	events := a.follow()
	before := a.identities()
	for _, one := range before {
		r.pin(one.pid).Kill(syscall.SIGSTOP)
		break
	}
	r.Until("kill", func() bool { return len(killed(events)) > 0 })
	rep.ControlKill = len(killed(events)) == 1 && len(missing(before, a.identities())) == 1
	a.Watchdog.Kill(syscall.SIGTERM)
	r.Empty(patience)
}

// identity names a process for good.
type identity struct {
	pid   int
	start string // in ticks since boot
}

// identities are the agent's workers by id, as the operating system has them.
func (a *Agent) identities() map[string]identity {
	var s struct {
		Pools []struct {
			Workers []struct {
				ID  string
				PID int
			}
		}
	}
	a.Status(&s)
	all := map[string]identity{}
	for _, p := range s.Pools {
		for _, w := range p.Workers {
			if fields := statOf(w.PID); len(fields) > 19 && fields[0] != "Z" {
				all[w.ID] = identity{w.PID, fields[19]}
			}
		}
	}
	return all
}

// missing are those of before that are not the same process now.
func missing(before, now map[string]identity) (gone []string) {
	for id, was := range before {
		if now[id] != was {
			gone = append(gone, fmt.Sprintf("%s, process %d", id, was.pid))
		}
	}
	return gone
}

// killed are the workers that have ended, whyever: the load gives nobody a reason to.
func killed(events *timeline) []happening {
	return events.find(func(h *happening) bool { return h.name == "worker.exited" })
}

// soak is one soak under way.
type soak struct {
	*Round
	rep      *SoakReport
	progress func(string)
	agent    *Agent
	events   *timeline

	calls, burns atomic.Int64
	burner       atomic.Value // string: the worker in which a call burns

	mu      sync.Mutex // guards the following
	pongs   []float64  // in ms
	resumed time.Time  // when the agent went on last
}

func (s *soak) run(lasts time.Duration) {
	s.agent = s.Start(Options{Config: fmt.Sprintf("pools:\n  - {name: p, adapter: soak.py, workers: %d}\n", soakWorkers), Files: map[string]string{"soak.py": soakTools}})
	s.agent.Ready()
	s.events = s.agent.follow()
	before := s.agent.identities()
	stopLoad := s.load()
	ctx, cancel := context.WithCancel(s.ctx)
	var all sync.WaitGroup
	stopCalls := sync.OnceFunc(func() { cancel(); all.Wait() })
	s.Cleanup(stopCalls)
	for range 4 {
		all.Go(func() { s.callShortly(ctx) })
	}
	all.Go(func() { s.callBurning(ctx) })
	all.Go(func() { s.watchPongs(ctx) })
	judged := false
	s.Cleanup(func() {
		if !judged { // interrupted, and its agent still serves
			s.tally()
		}
	})
	s.minutes(lasts)
	s.Until("burning call at its end", func() bool { return s.burns.Load() > 0 }) // the first of a run of a minute ends with it
	judged = true
	s.judge(before) // while all goes on: the end of the burning call, which nobody can break off, is the end of its worker
	stopCalls()
	stopLoad()
	s.agent.Watchdog.Kill(syscall.SIGTERM)
	s.Empty(2 * patience) // its burning call is ended by the drain
}

// minutes stops the agent each minute until the time is over.
func (s *soak) minutes(lasts time.Duration) {
	end := time.Now().Add(lasts)
	for time.Now().Before(end) {
		if err := s.events.over(); err != nil {
			s.Fatalf("the events cannot be followed: %v", err)
		}
		s.pass(min(time.Minute-soakStop, time.Until(end)))
		s.agent.Process.Kill(syscall.SIGSTOP)
		s.pass(soakStop)
		s.mu.Lock()
		s.resumed = time.Now()
		s.mu.Unlock()
		s.agent.Process.Kill(syscall.SIGCONT)
		s.rep.AgentStops++
		s.progress(fmt.Sprintf("%s left; %d calls, %d burnt for %s, %d changes of verdict, %d workers killed", time.Until(end).Round(time.Second),
			s.calls.Load(), s.burns.Load(), soakBurn, len(s.events.find(isVerdict)), len(killed(s.events))))
	}
}

func isVerdict(h *happening) bool { return h.name == "heartbeat.verdict" }

// callShortly calls one worker after the other.
func (s *soak) callShortly(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	c := s.agent.Client()
	for ctx.Err() == nil {
		_, err := c.CallRaw(ctx, client.Request{Pool: "p", Tool: "who", Timeout: 4 * patience})
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.Errorf("a short call failed: %v", err)
		default:
			s.calls.Add(1)
		}
		<-tick.C
	}
}

// callBurning keeps one call that holds the GIL, in one worker after the other.
func (s *soak) callBurning(ctx context.Context) {
	c := s.agent.Client()
	for ctx.Err() == nil {
		began := time.Now()
		result, err := c.CallRaw(ctx, client.Request{Pool: "p", Tool: "burn", Timeout: soakBurn + 4*patience,
			Args: client.Value{JSON: []byte(fmt.Sprintf(`{"seconds": %g}`, soakBurn.Seconds()))}})
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.Errorf("a burning call failed after %s: %v", time.Since(began), err)
		default:
			s.burner.Store(result.Worker)
			s.burns.Add(1)
		}
	}
}

// watchPongs keeps the time of each answer that nothing but the load delayed.
func (s *soak) watchPongs(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := map[string]float64{}
	for ctx.Err() == nil {
		<-tick.C
		burning := map[string]bool{}
		if id, ok := s.burner.Load().(string); ok {
			burning[id] = true // until the next one has ended
		}
		calls, err := s.agent.Client().Calls(ctx, "p")
		if err != nil {
			continue
		}
		for _, k := range calls {
			if k.Tool == "burn" {
				burning[k.Worker] = true
			}
		}
		s.notePongs(ctx, burning, last)
	}
}

func (s *soak) notePongs(ctx context.Context, burning map[string]bool, last map[string]float64) {
	var st struct {
		Pools []struct {
			Workers []struct {
				ID        string
				Heartbeat struct {
					RTTMS float64 `json:"rtt_ms"`
				}
			}
		}
	}
	text, err := s.agent.Client().Status(ctx)
	if err != nil || json.Unmarshal(text, &st) != nil || len(st.Pools) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range st.Pools[0].Workers {
		rtt := w.Heartbeat.RTTMS
		if rtt != last[w.ID] && !burning[w.ID] && time.Since(s.resumed) > soakStop { // else it may have waited for the agent
			s.pongs = append(s.pongs, rtt)
		}
		last[w.ID] = rtt
	}
}

// judge counts the kills twice, and looks at every change of verdict.
func (s *soak) judge(before map[string]identity) {
	s.events.whole(s.Round)
	dead := killed(s.events)
	for _, h := range dead {
		s.FalseKill("worker %s: %s; %s", h.Worker, h.End, h.Evidence)
	}
	gone := missing(before, s.agent.identities())
	if len(gone) > 0 || len(before) != soakWorkers {
		s.FalseKill("of %d workers at the beginning these are not there any more: %s", len(before), strings.Join(gone, "; "))
	}
	s.rep.Kills = max(len(dead), len(gone))
	if log := s.agent.Log(); strings.Contains(log, ": hung;") {
		s.rep.Kills++
		s.FalseKill("the agent was judged to hang")
	}
	if s.tally(); s.rep.Calls == 0 || s.rep.Burns == 0 || s.rep.Busy == 0 {
		s.Errorf("the load was none: %d calls, %d that burnt, %d verdicts busy", s.rep.Calls, s.rep.Burns, s.rep.Busy)
	}
}
