package chaos

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
)

// launcherScenarios are about the one process per pool that forks: its workers do not depend on it.
func launcherScenarios() []Scenario {
	return []Scenario{
		{Name: "launcher-killed-while-it-forks", What: "three times SIGKILL of a launcher, at a random moment while its pool grows by three workers",
			Expect: "the pool reaches its size, no process exists that does not belong to it, no living worker is hit", Rounds: 1, Long: 50, Waits: true, Run: launcherKilledForking},
		{Name: "launcher-stopped", What: "SIGSTOP of the launchers of two pools; one pool grows, in the other a worker is killed",
			Expect: "calls go on, both launchers are ended and followed by a new generation, both pools reach their size", Rounds: 1, Long: 5, Waits: true, Run: launcherStopped},
		{Name: "launcher-stuck-in-preload", What: "restart of a pool whose preload has come to hang; then SIGKILL of the agent while it hangs again",
			Expect: "the restart fails by name and the old workers serve on; then an empty tree", Rounds: 1, Long: 10, Waits: true, Run: launcherStuck},
		{Name: "rolling-restart-under-calls", What: "two restarts of a pool while clients call it without a pause",
			Expect: "every worker is another one, no call fails", Rounds: 1, Long: 10, Waits: true, Run: rollingRestart},
	}
}

// simple is an agent with pools of two workers that answer with their pid.
func startSimple(r *Round, pools string, files map[string]string) *kinAgent {
	all := map[string]string{"who.py": "import os\nimport pitboss\n@pitboss.tool\ndef who() -> int:\n    return os.getpid()\n"}
	for name, text := range files {
		all[name] = text
	}
	a := &kinAgent{r, r.Start(Options{Config: "pools:\n" + pools, Files: all, Env: []string{"CHAOS_DIR=" + r.dir}})}
	a.Ready()
	return a
}

// wantPopulation waits until the round's processes are exactly watchdog, agent, so many launchers, and a keeper and a worker for each of
// so many workers.
func (r *Round) wantPopulation(launchers, workers int) {
	want, last := 2+launchers+2*workers, 0
	tick := time.NewTicker(50 * time.Millisecond) // a look at every process of the host costs something
	defer tick.Stop()
	for end := time.Now().Add(patience); last != want && time.Now().Before(end); <-tick.C {
		last = len(r.tree.Alive())
	}
	if last != want {
		r.Errorf("%d processes, want %d: %+v%s", last, want, r.tree.Alive(), r.logs())
	}
}

func (a *kinAgent) scale(pool string, n int) {
	ctx, cancel := context.WithTimeout(a.Context(), patience)
	defer cancel()
	a.Must(a.Client().Scale(ctx, pool, n))
}

func launcherKilledForking(r *Round) {
	a := startSimple(r, "  - {name: default, adapter: who.py, workers: 1}\n", nil)
	size := 1
	for range 3 {
		before := a.workers("default")
		launcher := a.launcher("default")
		size += 3
		a.scale("default", size)
		pause := time.NewTimer(time.Duration(r.random.Int64N(int64(100 * time.Millisecond))))
		<-pause.C
		launcher.Kill(syscall.SIGKILL)
		r.Until("pool of its new size", func() bool { return a.readyWorkers("default") == size })
		r.wantPopulation(1, size)
		now := a.workers("default")
		for _, w := range before {
			if !slices.Contains(now, w) {
				r.FalseKill("worker %s died with its launcher", w.ID)
			}
		}
	}
	a.Process.Kill(syscall.SIGKILL)
	r.Empty(patience)
}

// readyWorkers is how many workers of a pool serve.
func (a *kinAgent) readyWorkers(pool string) int {
	var s struct {
		Pools []struct {
			Name  string
			Ready int
		}
	}
	a.Status(&s)
	for _, p := range s.Pools {
		if p.Name == pool {
			return p.Ready
		}
	}
	return 0
}

func launcherStopped(r *Round) {
	a := startSimple(r, "  - {name: grows, adapter: who.py, workers: 1, timeouts: {start: 5s}}\n"+
		"  - {name: loses, adapter: who.py, workers: 2, timeouts: {start: 5s}}\n", nil)
	stopped := []*Process{a.launcher("grows"), a.launcher("loses")}
	for _, l := range stopped {
		l.Kill(syscall.SIGSTOP)
	}
	grows, loses := a.workers("grows"), a.workers("loses")
	a.scale("grows", 2)
	a.pin(loses[0].PID).Kill(syscall.SIGKILL)
	answered := 0
	r.Until("pools of their size", func() bool {
		for _, pool := range []string{"grows", "loses"} {
			if _, err := a.callTool(pool, "who", 10*time.Second); err != nil && reasonOf(err) != client.WorkerDied {
				r.Errorf("a call while the launcher of pool %s was stopped: %v", pool, err)
			}
			answered++
		}
		return a.readyWorkers("grows") == 2 && a.readyWorkers("loses") == 2 && stopped[0].Gone(0) && stopped[1].Gone(0)
	})
	r.Note("%d calls meanwhile", answered)
	if !slices.Contains(a.workers("grows"), grows[0]) || !slices.Contains(a.workers("loses"), loses[1]) {
		r.FalseKill("a worker died with its stopped launcher: %v and %v became %v and %v", grows, loses, a.workers("grows"), a.workers("loses"))
	}
	r.wantPopulation(2, 4)
	a.Process.Kill(syscall.SIGKILL)
	r.Empty(patience)
}

// stuck is a preload that hangs while a file is there.
const stuck = `
import os, time
while os.path.exists(os.path.join(os.environ["CHAOS_DIR"], "hang")):
    time.sleep(0.01)
`

func launcherStuck(r *Round) {
	a := startSimple(r, "  - {name: default, adapter: who.py, workers: 2, preload: [stuck], workdir: "+r.dir+", timeouts: {start: 5s}}\n", map[string]string{"stuck.py": stuck})
	before := a.workers("default")
	r.Write("hang", "")
	calls := a.callWithoutPause("default", 2)
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	if _, err := a.Client().RestartPool(ctx, "default"); err == nil || !strings.Contains(err.Error(), "stuck") {
		r.Errorf("the restart ended with %v, want the name of the import that hangs", err)
	}
	calls.end(r)
	if now := a.workers("default"); !slices.Equal(now, before) {
		r.FalseKill("the workers %v became %v", before, now)
	}
	r.wantPopulation(1, 2) // the one that hangs does not stay
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		_, _ = a.Client().RestartPool(ctx, "default") // the agent's death ends it
	}()
	r.Cleanup(func() { <-restarted })
	r.wantPopulation(2, 2)
	a.Process.Kill(syscall.SIGKILL)
	r.Empty(patience)
}

// steady are clients that call without a pause.
type steady struct {
	stop     atomic.Bool
	clients  sync.WaitGroup
	mu       sync.Mutex
	answered map[string]int // by the pid that answered
	failures []error
}

func (a *kinAgent) callWithoutPause(pool string, clients int) *steady {
	s := &steady{answered: map[string]int{}}
	_ = a.Client() // connected here: what follows runs beside the round
	for range clients {
		s.clients.Go(func() {
			for !s.stop.Load() {
				pid, err := a.callTool(pool, "who", patience)
				s.mu.Lock()
				if err != nil {
					s.failures = append(s.failures, err)
				}
				s.answered[pid]++
				s.mu.Unlock()
			}
		})
	}
	a.Cleanup(func() { s.stop.Store(true); s.clients.Wait() })
	return s
}

// end joins the clients and fails the round if a call has failed, or none was answered.
func (s *steady) end(r *Round) {
	s.stop.Store(true)
	s.clients.Wait()
	total := 0
	for _, n := range s.answered {
		total += n
	}
	if len(s.failures) > 0 || total == 0 {
		r.Errorf("%d of %d calls failed, the first with %v", len(s.failures), total, append(s.failures, nil)[0])
	}
	r.Note("%d calls by %d workers", total, len(s.answered))
}

func rollingRestart(r *Round) {
	a := startSimple(r, "  - {name: default, adapter: who.py, workers: 2}\n", nil)
	before := a.workers("default")
	calls := a.callWithoutPause("default", 3)
	ctx, cancel := context.WithTimeout(r.Context(), 2*patience)
	defer cancel()
	for range 2 {
		if _, err := a.Client().RestartPool(ctx, "default"); err != nil {
			r.Fatalf("the restart: %v%s", err, r.logs())
		}
	}
	calls.end(r)
	for _, w := range a.workers("default") {
		if slices.Contains(before, w) {
			r.Errorf("worker %s is still there after the restart", w.ID)
		}
	}
	if len(calls.answered) < 3 {
		r.Errorf("%d workers have answered, want some of three generations", len(calls.answered))
	}
	r.wantPopulation(1, 2)
	a.Process.Kill(syscall.SIGKILL)
	r.Empty(patience)
}
