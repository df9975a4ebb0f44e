package chaos

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
	"golang.org/x/sys/unix"
)

// faultLimit is how long the tree may take to become empty after the agent's death, whatever is missing.
const faultLimit = grace + time.Second

// busyHost is from how many runnable tasks per processor on a late end is the host's: then limit alone holds.
const busyHost = 8

// fault is a resource that fails while an agent with victims serves.
type fault struct {
	name, what string
	cannot     func(*Host) string
	options    func(*Round, *Options)
	strike     func(*victims)
	// says is in the log when a worker that dies under the fault cannot be replaced; "": it is replaced.
	says string
	// mute: nobody can read standard error, so the certificate is looked for in the runtime directory alone.
	mute bool
	// lost: neither can the runtime directory be written; the certificate is on standard error alone.
	lost bool
	// alone: it is the whole host's.
	alone bool
}

// faultScenarios take away, one by one and all at once, what the kill path could need.
func faultScenarios() []Scenario {
	var all []Scenario
	for _, f := range faults() {
		expect := "a killed worker is replaced"
		if f.says != "" {
			expect = "a killed worker's replacement fails by name"
		}
		all = append(all, Scenario{Name: f.name, What: f.what, Expect: expect + ", living ones answer; then the agent is killed: empty within its grace and 1 s, with a certificate",
			Long: 20, Alone: f.alone, Cannot: f.cannot, Run: f.run})
	}
	all[len(all)-1].Rounds = 1 // of a plain verify, the one that has them all
	return append(all, oomScenarios()...)
}

func faults() []fault {
	return []fault{
		{name: "descriptors-run-out", what: "RLIMIT_NOFILE of agent and watchdog is what they hold; clients go on connecting", says: "too many open files", strike: noDescriptors},
		{name: "processes-run-out", what: "pids.max of the whole tree is what it holds", cannot: needsController("pids"), options: inController("pids"),
			says: "Resource temporarily unavailable", strike: noProcesses},
		{name: "user-processes-run-out", what: "RLIMIT_NPROC of an unprivileged tree is what its user has", cannot: cannotLimitUser, options: limitUser(manyProcesses),
			says: "Resource temporarily unavailable", strike: noProcessesOfUser},
		{name: "host-files-run-out", what: "the host's table of files is full for an unprivileged tree (ENFILE)", cannot: firstOf(needsWholeHost, cannotLimitUser),
			options: limitUser(manyProcesses), says: "too many open files in system", strike: noFiles, lost: true, alone: true},
		{name: "runtime-directory-full", what: "the runtime directory is a file system of 64 KiB, and full", cannot: needsUnshare, options: smallRuntimeDir,
			says: "no space left on device", strike: fillRuntimeDir, lost: true},
		{name: "log-disk-full", what: "standard error is /dev/full", options: stderrIs(devFull), mute: true},
		{name: "log-pipe-full", what: "standard error is a full pipe that nobody reads", options: stderrIs(fullPipe), mute: true},
		{name: "log-pipe-closed", what: "standard error is a pipe whose reader is gone", options: stderrIs(closedPipe), mute: true},
		{name: "log-terminal-hung-up", what: "standard error is a terminal that was hung up", options: stderrIs(hungUpTerminal), mute: true},
		{name: "memory-pressure", what: "the tree's memory limit is what it uses; reclaim never ends", cannot: needsController("memory"), options: inController("memory"), strike: noMemory},
		{name: "inherited-harm", what: "SIGCHLD ignored, all signals blocked, 0, 1 and 2 closed, 1 000 descriptors, umask 0777, no working directory, a stack of 256 KiB",
			options: inheritHarm, mute: true},
		{name: "everything-runs-out", what: "descriptors, processes, runtime directory, log pipe and memory at once", cannot: firstOf(needsController("pids"), needsController("memory"), needsUnshare),
			options: func(r *Round, o *Options) {
				smallRuntimeDir(r, o)
				inController("pids")(r, o)
				inController("memory")(r, o)
				stderrIs(fullPipe)(r, o)
			},
			strike: func(r *victims) { noMemory(r); fillRuntimeDir(r); noProcesses(r); noDescriptors(r) }, says: anything, mute: true, lost: true},
	}
}

// anything is the word of a fault whose log nobody can read.
const anything = "-"

func (f fault) run(round *Round) {
	r := startVictims(round, false, func(o *Options) {
		if f.options != nil {
			f.options(round, o)
		}
	})
	r.descend()
	r.enter("idle")
	before := r.agent.Client() // connected before the fault
	if f.strike != nil {
		f.strike(r)
	}
	f.replaces(r)
	r.livingAnswer(before)
	busy := runnable() > busyHost*r.host.CPUs
	r.agent.Process.Kill(unix.SIGKILL)
	switch took := r.Empty(limit); {
	case took > faultLimit && busy:
		r.Note("empty after %s; %d runnable tasks on %d processors", took.Round(time.Millisecond), runnable(), r.host.CPUs)
	case took > faultLimit:
		r.Errorf("empty after %s, want %s%s", took, faultLimit, r.logs())
	}
	f.certified(r)
}

// replaces kills a worker of the pool with two.
func (f fault) replaces(r *victims) {
	at := r.aKeeperOfA(r.random)
	dead := r.workers[at]
	dead.Kill(unix.SIGKILL)
	if !dead.Gone(patience) {
		r.Fatalf("worker %d outlives KILL", dead.PID)
	}
	r.keepers, r.workers = slices.Delete(r.keepers, at, at+1), slices.Delete(r.workers, at, at+1)
	switch f.says {
	case "":
		r.Until("replacement", func() bool { return len(r.noted("ready")) == workers+1 })
	case anything:
		r.Until("degraded pool", func() bool { return r.poolState(poolA) == "degraded" })
	default:
		r.Until("reason why the worker cannot be replaced", func() bool { return strings.Contains(r.agent.Log(), f.says) })
		if state := r.poolState(poolA); state != "degraded" {
			r.Errorf("pool %s with one worker of two is %s", poolA, state)
		}
	}
}

func (r *victims) poolState(name string) string {
	var s struct {
		Pools []struct{ Name, State string }
	}
	r.agent.Status(&s)
	for _, p := range s.Pools {
		if p.Name == name {
			return p.State
		}
	}
	return ""
}

// livingAnswer: both pools answer over a connection that was there before.
func (r *victims) livingAnswer(c *client.Client) {
	for _, pool := range []string{poolA, poolB} {
		if _, err := c.CallRaw(r.ctx, client.Request{Pool: pool, Tool: "who", Timeout: patience}); err != nil {
			r.Errorf("a living worker of pool %s: %v%s", pool, err, r.logs())
		}
	}
}

// certified looks for the death certificate where it can be.
func (f fault) certified(r *victims) {
	<-r.agent.waited // its watchdog is gone, or Empty had failed
	text, err := os.ReadFile(r.File("agent/last-death.json"))
	if f.lost {
		text, err = []byte(certificateIn(r.agent.Log())), nil
	}
	if f.lost && f.mute {
		return // nowhere to write it: the exit code is all that is left
	}
	var c struct {
		AgentPID int    `json:"agent_pid"`
		Left     int    `json:"survivor_count"`
		Proof    string `json:"proof"`
	}
	if err := errors.Join(err, json.Unmarshal(text, &c)); err != nil || c.AgentPID != r.agent.Process.PID || c.Left != 0 || !strings.HasPrefix(c.Proof, "ECHILD") {
		r.Errorf("certificate %q: %v%s", text, err, r.logs())
	}
	if !f.mute && certificateIn(r.agent.Log()) == "" {
		r.Errorf("no certificate on standard error%s", r.logs())
	}
	if code := r.agent.ExitCode(); code != 70 {
		r.Errorf("exit code %d, want 70", code)
	}
}

func certificateIn(log string) string {
	for line := range strings.Lines(log) {
		if strings.HasPrefix(line, `{"schema":1,"run_id"`) {
			return line
		}
	}
	return ""
}

// runnable is how many tasks of the host want a processor now (proc(5), loadavg).
func runnable() int {
	text, _ := os.ReadFile("/proc/loadavg")
	if f := strings.Fields(string(text)); len(f) > 3 {
		running, _, _ := strings.Cut(f[3], "/")
		n, _ := strconv.Atoi(running)
		return n
	}
	return 0
}

func firstOf(all ...func(*Host) string) func(*Host) string {
	return func(h *Host) string {
		for _, f := range all {
			if why := f(h); why != "" {
				return why
			}
		}
		return ""
	}
}
