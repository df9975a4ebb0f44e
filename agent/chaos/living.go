package chaos

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
)

// livingScenarios are about a pool that lives on: what one worker leaves ends with it, what others have started does not.
func livingScenarios() []Scenario {
	return []Scenario{
		{Name: "escapees-of-a-living-pool", What: "a worker of a pool ends in each of nine ways, with 14 sorts of processes left behind",
			Expect: "all of them gone, those of its siblings untouched, the pool serves on", Rounds: 1, Long: 20, Waits: true, Run: livingPool, Check: checkBroods},
		{Name: "background-children-live", What: "workers with background children serve calls, lose a sibling, then the launcher",
			Expect: "the children of the living live", Rounds: 1, Long: 10, Waits: true, Run: func(r *Round) { backgroundChildren(r, 200) }},
	}
}

// endings are how a worker of a living pool can end; each has a pool of its own, so that none waits for another's backoff.
var endings = []string{"exit", "segv", "kill-group", "exec", "sigkill", "deadline", "restart", "restart-pool", "scale"}

// graceOf is the grace of a pool's workers. In that of "restart" a worker gets TERM, and its breeder has to come to breed on a loaded host.
func graceOf(pool string) time.Duration {
	if pool == "restart" {
		return 5 * grace
	}
	return grace
}

// kinAgent is an agent whose workers have begotten.
type kinAgent struct {
	*Round
	*Agent
}

func startKin(r *Round, pools []string, workers int) *kinAgent {
	config := "pools:\n"
	for _, name := range pools {
		config += kinPool(name, workers, graceOf(name))
	}
	a := &kinAgent{r, r.Start(Options{Config: config, Files: map[string]string{"kin.py": kin}, Env: []string{"CHAOS_DIR=" + r.dir}})}
	a.Ready()
	var calls sync.WaitGroup
	for _, pool := range pools {
		for range workers {
			calls.Go(func() {
				if _, err := a.callTool(pool, "beget", time.Minute); err != nil {
					r.Errorf("beget in pool %s: %v", pool, err)
				}
			})
		}
	}
	calls.Wait()
	// Two calls of one pool may have gone to one worker, which begets once.
	for _, pool := range pools {
		r.Until("family of each worker of pool "+pool, func() bool {
			for _, w := range a.workers(pool) {
				if r.size("pulse."+itoa(w.PID)) == 0 {
					_, _ = a.callTool(pool, "beget", time.Minute)
					return false
				}
			}
			return true
		})
	}
	return a
}

func (a *kinAgent) callTool(pool, tool string, timeout time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(a.Context(), patience)
	defer cancel()
	result, err := a.Client().CallRaw(ctx, client.Request{Pool: pool, Tool: tool, Timeout: timeout})
	return string(result.JSON), err
}

// patient is a context for an order.
func (a *kinAgent) patient() (context.Context, context.CancelFunc) {
	return context.WithTimeout(a.Context(), patience)
}

// shownWorker is what status says of a worker.
type shownWorker struct {
	ID  string
	PID int
}

func (a *kinAgent) workers(pool string) []shownWorker {
	var s struct {
		Pools []struct {
			Name    string
			Workers []shownWorker
		}
	}
	a.Status(&s)
	for _, p := range s.Pools {
		if p.Name == pool {
			return p.Workers
		}
	}
	a.Fatalf("no pool %s", pool)
	return nil
}

func livingPool(r *Round) {
	a := startKin(r, endings, 2)
	families := r.families()
	if want := 2 * len(endings); len(families) != want {
		r.Fatalf("%d families, want %d", len(families), want)
	}
	for _, how := range endings {
		ended := a.endWorkers(how, a.workers(how))
		for _, pid := range ended {
			r.wantGone(families[pid], how)
			delete(families, pid)
		}
		for _, f := range families {
			r.wantLiving(f, how)
		}
		if _, err := a.callTool(how, "who", patience); err != nil {
			r.Errorf("pool %s does not serve on: %v", how, err)
		}
	}
	a.Ready()
	a.Process.Kill(syscall.SIGKILL)
	r.Empty(patience)
	r.Count(broods, r.bred())
}

// broods are the processes that breeders have made in their grace.
const broods = "processes bred in the grace"

// checkBroods: without any the rows do not show what they should.
func checkBroods(counts map[string]int) error {
	if counts[broods] == 0 {
		return errors.New("no breeder has bred in its grace")
	}
	return nil
}

// endWorkers ends one worker, or with its pool both, and returns the pids that have to end.
func (a *kinAgent) endWorkers(how string, before []shownWorker) []int {
	ctx, cancel := context.WithTimeout(a.Context(), patience)
	defer cancel()
	one := before[a.Random().IntN(len(before))]
	died := func(tool string, timeout time.Duration, want client.Reason) []int {
		_, err := a.callTool(how, tool, timeout)
		if reasonOf(err) != want {
			a.Errorf("call of %s: %v, want %s", tool, err, want)
		}
		return a.missing(how, before)
	}
	switch how {
	case "exit", "segv":
		return died(how, patience, client.WorkerDied)
	case "kill-group": // kill(0): its group is its own
		return died("kill_group", patience, client.WorkerDied)
	case "exec": // by a thread: the process keeps its number, the worker is gone
		return died("become_another", patience, client.WorkerDied)
	case "deadline":
		return died("hang", 300*time.Millisecond, client.CallTimeout)
	case "sigkill":
		a.pin(one.PID).Kill(syscall.SIGKILL)
		return []int{one.PID}
	case "restart":
		a.Write("linger", "") // it gets its TERM, and the grace in which its breeder breeds
		_, err := a.Client().RestartWorker(ctx, one.ID)
		a.Must(err)
		a.Until("end of worker "+one.ID, func() bool { return slices.Contains(a.missing(how, before), one.PID) })
		a.Must(os.Remove(a.File("linger")))
		return []int{one.PID}
	case "restart-pool":
		_, err := a.Client().RestartPool(ctx, how)
		a.Must(err)
	case "scale":
		a.Must(a.Client().Scale(ctx, how, 1))
	}
	return a.missing(how, before)
}

// missing waits until one of the workers, or for restart-pool all, is not shown any more.
func (a *kinAgent) missing(pool string, before []shownWorker) (gone []int) {
	want := 1
	if strings.HasSuffix(pool, "-pool") {
		want = len(before)
	}
	a.Until("end of a worker of pool "+pool, func() bool {
		now := a.workers(pool)
		gone = nil
		for _, w := range before {
			if !slices.Contains(now, w) {
				gone = append(gone, w.PID)
			}
		}
		return len(gone) >= want
	})
	return gone
}

// backgroundChildren: nothing but the end of its own worker ends a background child.
func backgroundChildren(r *Round, calls int) {
	a := startKin(r, []string{"default"}, 3)
	families := r.families()
	for range calls {
		if _, err := a.callTool("default", "who", patience); err != nil {
			r.Fatalf("a call: %v", err)
		}
	}
	for _, f := range families {
		r.wantLiving(f, "calls")
	}
	before := a.workers("default")
	dead := families[before[0].PID]
	dead.worker.Kill(syscall.SIGKILL)
	r.wantGone(dead, "SIGKILL of its worker")
	delete(families, before[0].PID)
	for _, f := range families {
		r.wantLiving(f, "SIGKILL of a sibling")
	}
	a.Ready()
	launcher := a.launcher("default")
	launcher.Kill(syscall.SIGKILL)
	if !launcher.Gone(patience) {
		r.Fatalf("launcher %d is still there", launcher.PID)
	}
	for _, f := range families {
		r.wantLiving(f, "SIGKILL of the launcher")
	}
	// The keepers are the agent's children now, and end their trees as before.
	orphan := families[before[1].PID]
	orphan.worker.Kill(syscall.SIGKILL)
	r.wantGone(orphan, "SIGKILL of its worker, whose keeper had fallen to the agent")
	r.wantLiving(families[before[2].PID], "SIGKILL of a sibling after the launcher's death")
	a.Ready()
	a.Process.Kill(syscall.SIGKILL)
	r.Empty(patience)
}

// launcher is that of a pool, pinned.
func (a *kinAgent) launcher(pool string) *Process {
	var s struct {
		Pools []struct {
			Name        string
			LauncherPID int `json:"launcher_pid"`
		}
	}
	a.Status(&s)
	for _, p := range s.Pools {
		if p.Name == pool {
			return a.pin(p.LauncherPID)
		}
	}
	a.Fatalf("no pool %s", pool)
	return nil
}
