package chaos

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
)

// guest is a worker with three escapees that ignore TERM: one in its group, one in a session of its own, one that was forked twice. It
// needs nothing of the host that a lesser one may lack.
const guest = `
import os, signal, subprocess
import pitboss

def sleep(**options):
    subprocess.Popen(["sleep", "600"], **options)

class Guest(pitboss.Adapter):
    def setup(self):
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # kept over fork and exec
        sleep()
        sleep(start_new_session=True)
        pid = os.fork()
        if pid == 0:
            os.setsid()
            if os.fork() == 0:
                os.execvp("sleep", ["sleep", "600"])
            os._exit(0)
        os.waitpid(pid, 0)
        signal.signal(signal.SIGTERM, before)

    @pitboss.tool
    def add(self, a: int, b: int) -> int:
        return a + b
`

const (
	guests        = 2 // workers of an agent on a strange host
	guestEscapees = 3
)

// strangeHost is an arrangement for one agent, and what has to be said there.
type strangeHost struct {
	before     func(*Round) []string // words put before the command; nil for none
	env        []string
	asNobody   bool // before makes it nobody's where the caller is root: the files must be its
	tier       string
	reason     string         // a part of tier_reason in status
	ends       syscall.Signal // for words that stay the command's parent: what ends it all when it comes to them
	lacks      []string       // what `pitboss doctor` has to name there
	bystanders int            // sleeps that are none of the workers'
	beside     func(*Round)   // looks at what else has to hold, while the agent serves
}

// run is the core of every such scenario: calls are answered, a killed worker takes its escapees with it and nobody else, a
// replacement answers, and after a SIGKILL of the agent nothing is left.
func (h strangeHost) run(r *Round) {
	a := r.Start(h.options(r))
	g := &guestTree{Round: r, agent: a, bystanders: h.bystanders}
	h.wantTier(a)
	g.wantAnswer("first")
	first := g.workers()
	g.killOne(first)
	if h.beside != nil {
		h.beside(r)
	}
	h.wantNamed(r)
	if h.tier != "cgroup" && slices.Contains(h.env, "PITBOSS_CGROUP=delegated") {
		h.wantRefusals(r)
	}
	a.Process.Kill(syscall.SIGKILL)
	r.Empty(limit)
	if code := a.ExitCode(); code != 70 {
		r.Errorf("exit code %d after the agent's death, want 70%s", code, r.logs())
	}
	if tier := `"tier":"` + h.tier + `"`; !strings.Contains(a.Log(), tier) || !strings.Contains(a.Log(), `"survivor_count":0`) {
		r.Errorf("no certificate with %s and no survivors%s", tier, r.logs())
	}
}

func (h strangeHost) options(r *Round) Options {
	o := Options{Files: map[string]string{"guest.py": guest}, Env: h.env, InPlace: h.ends == 0,
		Config: fmt.Sprintf("pools: [{name: default, adapter: guest.py, workers: %d, timeouts: {kill: %s}}]\n", guests, grace)}
	if h.before != nil {
		o.Before = h.before(r)
	}
	o.Env = append(slices.Clone(o.Env), "XDG_RUNTIME_DIR="+r.dir)
	if h.asNobody && r.host.Root {
		o.Env = append(o.Env, "PITBOSS_PYTHON="+nobodysPython(r.host), "HOME="+r.dir)
		r.Must(os.Chown(r.dir, nobody, nobody))
	}
	o.Change = func(c *exec.Cmd) {
		endWithUs(c, h.ends)
		if h.asNobody && r.host.Root { // the files have been written by now
			for _, name := range []string{"guest.py", "agent.yaml"} {
				r.Must(os.Chown(r.File(name), nobody, nobody))
			}
		}
	}
	return o
}

// endWithUs makes the end of this process the command's, by this signal; 0 for none. No thread of a Go program ends before the program but
// one that a goroutine has locked for ever, and none does here.
func endWithUs(c *exec.Cmd, s syscall.Signal) {
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.SysProcAttr.Pdeathsig = s
}

func (h strangeHost) wantTier(a *Agent) {
	a.Ready()
	var s struct {
		Agent struct {
			Tier   string
			Reason string `json:"tier_reason"`
		}
	}
	a.Status(&s)
	if s.Agent.Tier != h.tier || !strings.Contains(s.Agent.Reason, h.reason) {
		a.round.Errorf("tier %q because %q, want %q because %q", s.Agent.Tier, s.Agent.Reason, h.tier, h.reason)
	}
	if s.Agent.Reason != "" {
		a.round.Note("tier %s: %s", s.Agent.Tier, s.Agent.Reason)
	}
}

// wantNamed: doctor names what is missing here.
func (h strangeHost) wantNamed(r *Round) {
	if len(h.lacks) == 0 {
		return
	}
	_, said := r.pitboss(h.before(r), nil, "doctor", "--socket", r.File("nowhere.sock"))
	for _, name := range h.lacks {
		if !strings.Contains(said, "  kernel       no "+name+": ") {
			r.Errorf("`pitboss doctor` does not name %s:\n%s", name, said)
		}
	}
}

// wantRefusals: whoever demands the tier cgroup here is told why it is not to be had.
func (h strangeHost) wantRefusals(r *Round) {
	for name, config := range map[string]string{
		"require": "watchdog: {require: cgroup}\npools: [{name: a, adapter: guest.py, workers: 1}]\n",
		"guard":   "pools: [{name: a, adapter: guest.py, workers: 1, guard: cgroup}]\n",
	} {
		r.Write(name+".yaml", config)
		var before []string
		if h.before != nil {
			before = h.before(r)
		}
		code, said := r.pitboss(before, h.env, "agent", "--config", r.File(name+".yaml"), "--socket", r.File(name+".sock"), "--runtime-dir", r.File(name))
		if code != 78 || !strings.Contains(said, "the tier is "+h.tier+": ") || !strings.Contains(said, h.reason) {
			r.Errorf("%s: cgroup: exit code %d, want 78 and %q:\n%s", name, code, h.reason, said)
		}
	}
}

// pitboss runs a command of this round to its end and returns its exit code and what it wrote.
func (r *Round) pitboss(before, env []string, args ...string) (code int, said string) {
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	line := append(append(slices.Clone(before), r.host.Binary), args...)
	c := exec.CommandContext(ctx, line[0], line[1:]...)
	c.Dir = r.dir
	c.Env = append(append(os.Environ(), TokenEnv+"="+r.tree.Token, "PITBOSS_PYTHON="+r.host.Python, "XDG_RUNTIME_DIR="+r.dir), env...)
	c.WaitDelay = time.Second
	if r.tree.Cgroup != "" {
		dir, err := os.Open(r.tree.Cgroup)
		r.Must(err)
		defer func() { _ = dir.Close() }()
		c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	}
	endWithUs(c, syscall.SIGKILL)
	text, _ := c.CombinedOutput() // how it ended is the exit code
	if c.ProcessState == nil {
		r.Fatalf("cannot start %q", line)
	}
	return c.ProcessState.ExitCode(), string(text)
}

// guestTree is the agent's tree as /proc shows it.
type guestTree struct {
	*Round
	agent      *Agent
	bystanders int
}

// guestWorker is a worker with its escapees, pinned.
type guestWorker struct {
	worker   *Process
	escapees []*Process
}

// workers waits until every worker has its escapees, sees each once, and counts all sleeps of the round: the instrument sees what it
// will later miss.
func (g *guestTree) workers() map[int]guestWorker {
	seen := map[int][]int{} // escapees by worker
	g.Until("workers with their escapees", func() bool {
		clear(seen)
		for _, launcher := range ChildrenOf(g.agent.Process.PID) {
			for _, keeper := range ChildrenOf(launcher) {
				if pid, escaped := guestOf(keeper); pid != 0 && len(escaped) == guestEscapees {
					seen[pid] = escaped
				}
			}
		}
		return len(seen) == guests
	})
	found := map[int]guestWorker{}
	for pid, escaped := range seen {
		found[pid] = guestWorker{worker: g.pin(pid), escapees: g.pinAll(escaped)}
	}
	// What a script before the agent has left may still be on its way out.
	want := guests*guestEscapees + g.bystanders
	g.Until(fmt.Sprintf("sight of %d sleeps", want), func() bool { return g.sleeps() == want })
	return found
}

// guestOf is the worker of a keeper, 0 while it is not there, and the escapees: children of the worker, and those that fell to the keeper.
func guestOf(keeper int) (worker int, escaped []int) {
	for _, pid := range ChildrenOf(keeper) {
		if programOf(pid) == "sleep" {
			escaped = append(escaped, pid)
			continue
		}
		worker = pid
		for _, child := range ChildrenOf(pid) {
			if programOf(child) == "sleep" {
				escaped = append(escaped, child)
			}
		}
	}
	return worker, escaped
}

func (g *guestTree) pinAll(pids []int) []*Process {
	var all []*Process
	for _, pid := range pids {
		all = append(all, g.pin(pid))
	}
	return all
}

// sleeps counts the sleeps of the round.
func (g *guestTree) sleeps() int {
	n := 0
	for _, s := range g.tree.Alive() {
		if programOf(s.PID) == "sleep" {
			n++
		}
	}
	return n
}

// killOne kills a worker: its escapees go with it, the others live on, and a replacement comes.
func (g *guestTree) killOne(before map[int]guestWorker) {
	victim := 0
	for pid := range before {
		victim = max(victim, pid)
	}
	before[victim].worker.Kill(syscall.SIGKILL)
	for _, p := range before[victim].escapees {
		if !p.Gone(limit) {
			g.Errorf("escapee %d lives %s after its worker's death", p.PID, limit)
		}
	}
	after := g.workers()
	for pid, w := range before {
		if pid == victim {
			continue
		}
		if _, there := after[pid]; !there || w.worker.Gone(0) {
			g.FalseKill("worker %d died with its sibling", pid)
		}
		for _, p := range w.escapees {
			if p.Gone(0) {
				g.FalseKill("escapee %d of the living worker %d died", p.PID, pid)
			}
		}
	}
	g.agent.Ready()
	for range guests {
		g.wantAnswer("replacement's")
	}
}

func (g *guestTree) wantAnswer(which string) {
	ctx, cancel := context.WithTimeout(g.ctx, patience)
	defer cancel()
	sum, err := client.Call[int](ctx, g.agent.Client(), "add", map[string]int{"a": 2, "b": 3})
	if err != nil || sum != 5 {
		g.Errorf("the %s answer is %d, %v%s", which, sum, err, g.logs())
	}
}
