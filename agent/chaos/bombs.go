package chaos

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
	"golang.org/x/sys/unix"
)

// bomb is a worker whose tool forks until no process more is to be had. From then on each that is reaped makes room, and those that live fill
// it at once: who kills one after the other never ends.
//
// scattered: each has a session of its own, so no signal reaches two of them.
const bomb = `
import os, signal, time
import pitboss

def go_off(scattered):
    end = time.monotonic() + 120  # should nobody end it
    while time.monotonic() < end:
        try:
            if os.fork() == 0 and scattered:
                os.setsid()
        except OSError:
            pass
    os._exit(0)

@pitboss.tool
def explode(scattered: bool) -> int:
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        go_off(scattered)
    return os.getpid()

@pitboss.tool
def who() -> int:
    return os.getpid()
`

const (
	bombRoom    = 150 // processes and threads of the whole tree; the agent has some thirty threads
	bombWorkers = 2
	bombTree    = 3 + 2*bombWorkers // watchdog, agent, launcher, keepers and workers
	// atLeast is how many processes of a bomb are seen before anything is done about it.
	atLeast = 80
	// bombLimit is for a host whose processors the bomb has to itself, until it is killed.
	bombLimit = 10 * time.Second
	// bombPatience is for a pool whose starts have failed so often meanwhile that it waits for a minute before the next.
	bombPatience = 2 * time.Minute
)

// bombScenarios: fork bombs that have reached the limit of their user's processes, or of their cgroup's.
func bombScenarios() []Scenario {
	const expect = "all of it is gone, its sibling lives, the pool is whole again; then an empty tree"
	return []Scenario{
		{Name: "fork-bomb", What: "a tool forks without end, in its group or with a session for each, up to RLIMIT_NPROC; its worker is killed, a worker's keeper and launcher, then the agent",
			Expect: expect, Long: 20, Cannot: cannotLimitUser, Run: func(r *Round) { forkBomb(r, limitUser(bombRoom)) }},
		{Name: "fork-bomb-in-a-cgroup", What: "the same in tier cgroup, up to pids.max",
			Expect: expect, Long: 20, Cannot: needs(NeedsCgroup, needsController("pids")), Run: func(r *Round) {
				forkBomb(r, func(r *Round, o *Options) {
					inController("pids")(r, o)
					r.Must(os.WriteFile(filepath.Join(controllerDir(r, "pids"), "pids.max"), []byte(itoa(bombRoom)), 0))
					delegated(o)
				})
			}},
	}
}

func cannotLimitUser(h *Host) string {
	if _, err := exec.LookPath("prlimit"); err != nil {
		return "needs prlimit(1)"
	}
	if why := needsSetpriv(h); why != "" {
		return why + ": it needs a user of its own, whose processes it limits"
	}
	return nobodyServes(h)
}

// limitUser makes the agent somebody's, whom nobody else is, with a limit of processes and threads (RLIMIT_NPROC does not bind root).
func limitUser(most int) func(*Round, *Options) {
	return func(r *Round, o *Options) {
		o.Before = append([]string{"prlimit", "--nproc=" + itoa(most), "setpriv", "--reuid", itoa(somebody), "--regid", itoa(somebody), "--clear-groups"}, o.Before...)
		o.InPlace = true
		o.Env = append(o.Env, "PITBOSS_PYTHON="+nobodysPython(r.host), "HOME="+r.dir)
		o.Change = func(c *exec.Cmd) { // the files have been written by now
			r.Must(filepath.WalkDir(r.dir, func(path string, _ fs.DirEntry, err error) error { return os.Chown(path, somebody, somebody) }))
		}
	}
}

func forkBomb(r *Round, bounded func(*Round, *Options)) {
	o := Options{Files: map[string]string{"bomb.py": bomb},
		Config: "pools: [{name: default, adapter: bomb.py, workers: " + itoa(bombWorkers) + ", timeouts: {kill: " + grace.String() + ", drain: " + drain.String() + "}}]\n"}
	bounded(r, &o)
	a := &kinAgent{r, r.Start(o)}
	a.Ready()
	for _, way := range []bombEnd{{scattered: false}, {scattered: true}, {scattered: true, guardians: true}} {
		a.defuse(way)
	}
	a.explode(r.random.IntN(2) == 0)
	a.Process.Kill(syscall.SIGKILL)
	r.Empty(bombLimit)
}

// bombEnd is one way in which a bomb is set off and its worker ended.
type bombEnd struct {
	scattered bool
	guardians bool // its keeper and the launcher are killed, so that the bomb falls to the agent
}

// defuse lets a bomb go off and ends its worker.
func (a *kinAgent) defuse(way bombEnd) {
	before := a.workers("default")
	worker := a.explode(way.scattered)
	began := time.Now()
	if way.guardians {
		keeper := a.pin(parentOf(worker.PID))
		a.launcher("default").Kill(unix.SIGKILL)
		keeper.Kill(unix.SIGKILL)
	} else {
		worker.Kill(unix.SIGKILL)
	}
	if !worker.Gone(bombLimit) {
		a.survived("worker %d", worker.PID)
	}
	a.within(bombLimit, "tree without the bomb", func() bool { return len(a.tree.Alive()) <= bombTree })
	gone := time.Since(began)
	// Status may list the dead for a moment.
	dead := func(w shownWorker) bool { return w.PID == worker.PID }
	a.within(bombPatience, "whole pool", func() bool {
		return a.readyWorkers("default") == bombWorkers && !slices.ContainsFunc(a.workers("default"), dead) && len(a.tree.Alive()) == bombTree
	})
	a.Note("%+v: gone after %s, its worker replaced after %s", way, gone.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	for _, w := range before {
		if w.PID != 0 && w.PID != worker.PID && !slices.Contains(a.workers("default"), w) {
			a.FalseKill("worker %d died with its sibling%s", w.PID, a.logs())
		}
	}
	if _, err := a.callTool("default", "who", patience); err != nil {
		a.Errorf("a call after it: %v", err)
	}
}

// explode sets off a bomb and returns its worker, as soon as it fills the room that there is.
func (a *kinAgent) explode(scattered bool) *Process {
	args, err := json.Marshal(map[string]bool{"scattered": scattered})
	a.Must(err)
	ctx, cancel := a.patient()
	defer cancel()
	answer, err := a.Client().CallRaw(ctx, client.Request{Pool: "default", Tool: "explode", Args: client.Value{JSON: args}, Timeout: patience})
	a.Must(err)
	var pid int
	a.Must(json.Unmarshal(answer.JSON, &pid))
	a.Until("bomb", func() bool { return a.crowd() >= atLeast })
	return a.pin(pid)
}

// crowd is how many processes the round has; by its cgroup where it has one, because who asks every witness about each of a bomb's processes
// gets a hundredth of a processor for that, and takes half a minute.
func (a *kinAgent) crowd() int {
	if inside := a.tree.members(); inside != nil {
		return len(inside)
	}
	return len(a.tree.Alive())
}
