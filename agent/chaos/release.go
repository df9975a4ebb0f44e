package chaos

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	gatedWorkers = 8
	bareWorkers  = 4
)

// needy is a worker that binds a port and locks a file, writes down how that went, and leaves both to a double-forked process of
// its own session that ignores TERM.
const needy = `
import errno, fcntl, os, signal, socket
import pitboss

def take():
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    lock = open(os.environ["NEED_LOCK"], "a")
    try:
        listener.bind(("127.0.0.1", int(os.environ["NEED_PORT"])))
        listener.listen()
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        return errno.errorcode[e.errno]
    kept.extend([listener, lock])
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork():
            os._exit(0)
        while True:
            signal.pause()
    os.wait()
    return "ok"

kept = []
got = take()
with open(os.environ["NEED_LOG"], "a") as f:
    f.write(got + "\n")

@pitboss.tool
def nothing():
    pass
`

// releaseScenarios are about what only one worker can have.
func releaseScenarios() []Scenario {
	return []Scenario{{
		Name:   "release-gate",
		What:   fmt.Sprintf("SIGKILL of %d workers whose escapees hold their ports and locks, keepers of half of them stopped until the control is over", gatedWorkers+bareWorkers),
		Expect: "with a release gate each successor finds both free; without one, as control, some do not",
		Rounds: 1, Long: 13, Waits: true,
		Run: release, Check: released,
	}}
}

func released(counts map[string]int) error {
	switch met := counts["gated, free"]; {
	case met != counts["gated"]:
		return fmt.Errorf("%d of %d successors behind a gate found a port or a lock in use", counts["gated"]-met, counts["gated"])
	case counts["bare, free"] == counts["bare"]:
		return fmt.Errorf("the control saw nothing: all %d successors without a gate found everything free", counts["bare"])
	}
	return nil
}

func release(r *Round) {
	base := r.freePorts(gatedWorkers + bareWorkers)
	pool := func(name string, workers, first int, extra string) string {
		return fmt.Sprintf("  - {name: %s, adapter: needy.py, workers: %d, timeouts: {kill: 1s}, env: {NEED_PORT: \"{{add %d .Index}}\", NEED_LOCK: \"%s.{{.Index}}.lock\", NEED_LOG: took.%s}%s}\n",
			name, workers, first, name, name, extra)
	}
	gate := fmt.Sprintf(", release: {ports: [\"127.0.0.1:{{add %d .Index}}\"], files: [\"gated.{{.Index}}.lock\"]}", base)
	a := r.Start(Options{Files: map[string]string{"needy.py": needy},
		Config: "pools:\n" + pool("gated", gatedWorkers, base, gate) + pool("bare", bareWorkers, base+gatedWorkers, "")})
	a.Ready()

	var stopped []*Process
	for i, w := range r.workersOf(a) {
		if i%2 == 0 {
			stopped = append(stopped, w.keeper)
			w.keeper.Kill(unix.SIGSTOP)
		}
		w.process.Kill(syscall.SIGKILL)
	}
	// The control first: it waits for no keeper, and what the others guard holds on for as long.
	for _, name := range []string{"bare", "gated"} {
		workers := map[string]int{"gated": gatedWorkers, "bare": bareWorkers}[name]
		var took []string
		r.Until("successors in pool "+name, func() bool {
			text, err := os.ReadFile(r.File("took." + name))
			took = strings.Fields(string(text))
			return err == nil && len(took) >= 2*workers
		})
		for _, got := range took[:workers] {
			if got != "ok" {
				r.Fatalf("a first worker found a resource in use: %v", took)
			}
		}
		for _, got := range took[workers:] {
			r.Count(name, 1)
			if got == "ok" {
				r.Count(name+", free", 1)
			}
		}
		r.Note("%s: %s", name, strings.Join(took[workers:], " "))
		for _, keeper := range stopped {
			keeper.Kill(unix.SIGCONT)
		}
	}
	a.Ready()
	a.Process.Kill(syscall.SIGTERM)
	if left, _ := r.tree.WaitEmpty(patience); len(left) > 0 {
		r.Errorf("survivors after the stop: %v%s", left, r.logs())
	}
}

// aWorker is one worker with its keeper, pinned.
type aWorker struct{ process, keeper *Process }

// workersOf pins every worker of an agent that nobody harms yet.
func (r *Round) workersOf(a *Agent) (all []aWorker) {
	var s struct {
		Pools []struct {
			Workers []struct {
				PID    int
				Keeper int `json:"keeper_pid"`
			}
		}
	}
	a.Status(&s)
	for _, p := range s.Pools {
		for _, w := range p.Workers {
			process, keeper := r.pin(w.PID), r.pin(w.Keeper)
			if !slices.Contains(ChildrenOf(w.Keeper), w.PID) {
				r.Fatalf("process %d is no child of its keeper %d", w.PID, w.Keeper)
			}
			all = append(all, aWorker{process, keeper})
		}
	}
	return all
}

// freePorts finds so many ports in a row that nobody uses, below those that the kernel gives to whoever asks for any.
func (r *Round) freePorts(n int) int {
	for range 100 {
		base := 12000 + r.random.IntN(18000)
		free := 0
		for ; free < n; free++ {
			l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(base+free))
			if err != nil {
				break
			}
			_ = l.Close()
		}
		if free == n {
			return base
		}
	}
	r.Fatalf("no %d free ports in a row", n)
	return 0
}
