package chaos

import (
	"context"
	"debug/elf"
	"debug/gosym"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What the function that says "I live" does from now on, in machine code of amd64: wait for ever, in the kernel and without the Go
// runtime's knowledge, as a goroutine does that a library has blocked; or turn on the spot.
var (
	asleep  = []byte{0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7} // mov $34, %eax (pause(2)); syscall; jmp to the beginning
	burning = []byte{0xeb, 0xfe}                                // jmp to itself
)

// hang makes the agent stop beating for good. It is not stopped, starved or traced; it can run and does not do its work.
func (a *Agent) hang(code []byte) {
	r := a.round
	file, err := elf.Open(r.host.Binary)
	r.Must(err)
	defer func() { _ = file.Close() }()
	lines, text := file.Section(".gopclntab"), file.Section(".text")
	if lines == nil || text == nil || file.Type != elf.ET_EXEC {
		r.Fatalf("%s has no table of its functions, or no fixed place", r.host.Binary)
	}
	data, err := lines.Data()
	r.Must(err)
	table, err := gosym.NewTable(nil, gosym.NewLineTable(data, text.Addr))
	r.Must(err)
	beat := table.LookupFunc("github.com/pitboss-run/pitboss/agent.(*guard).beat")
	if beat == nil {
		r.Fatalf("the agent has no function guard.beat")
	}
	memory, err := os.OpenFile("/proc/"+itoa(a.Process.PID)+"/mem", os.O_WRONLY, 0)
	r.Must(err)
	defer func() { _ = memory.Close() }()
	_, err = memory.WriteAt(code, int64(beat.Entry))
	r.Must(err)
}

// cannotReach says why another process's memory cannot be written here, which a debugger could as well.
func cannotReach(*Host) string {
	if runtime.GOARCH != "amd64" {
		return "needs amd64: the hang is written in its machine code"
	}
	scope, _ := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	switch level := strings.TrimSpace(string(scope)); {
	case level == "3", level == "2" && os.Geteuid() != 0:
		return "needs a kernel.yama.ptrace_scope below " + level + ", or root"
	}
	return ""
}

// startBeating starts an agent of two workers whose watchdog judges it after timeout.
func startBeating(r *Round, timeout time.Duration) (w *silentWorkers, before map[string]int) {
	w = &silentWorkers{Round: r, served: map[string][]time.Time{}}
	w.agent = r.Start(Options{Config: fmt.Sprintf("watchdog: {agent_timeout: %s}\npools:\n  - {name: p, adapter: silent.py, workers: 2, timeouts: {kill: %s}}\n", timeout, grace),
		Files: map[string]string{"silent.py": silentTools}})
	w.agent.Ready()
	w.events = w.agent.follow()
	return w, w.workers()
}

// unharmed fails the round unless the agent and these workers live and answer.
func (w *silentWorkers) unharmed(before map[string]int) {
	if w.agent.Process.Gone(0) {
		w.FalseKill("agent %d%s", w.agent.Process.PID, w.logs())
		runtime.Goexit()
	}
	if log := w.agent.Log(); strings.Contains(log, ": hung;") {
		w.Errorf("it was judged to hang; log:\n%s", log)
	}
	for id, pid := range before {
		if w.workers()[id] != pid {
			w.FalseKill("worker %s, process %d%s", id, pid, w.logs())
		}
	}
	k := w.begin("pause", `{"seconds": 0}`)
	<-k.done
	w.Must(k.err)
	w.events.whole(w.Round)
	w.events.spared(w.Round, nil)
}

// agentHung: the watchdog finds it, its stacks are in the log, nothing is left, and no second agent starts before that.
func agentHung(r *Round, code []byte, timeout, bound time.Duration, loaded bool) {
	w, _ := startBeating(r, timeout)
	running := w.begin("pause", `{"seconds": 3600}`)
	w.Until("a running call", func() bool {
		calls, err := w.agent.Client().Calls(r.ctx, "p")
		return err == nil && len(calls) == 1 && calls[0].Worker != ""
	})
	stop := func() {}
	if loaded {
		stop = r.load()
	}
	start := time.Now()
	w.agent.hang(code)
	w.agent.second()
	w.within(bound, "death of the agent", func() bool { return w.agent.Process.Gone(0) })
	r.Note("agent_timeout %s: dead %s after it began to hang", timeout, time.Since(start).Round(time.Millisecond))
	if code := w.agent.ExitCode(); code != 70 {
		r.Errorf("exit code %d, want 70", code)
	}
	log := w.agent.Log()
	for _, want := range []string{": hung; asking for its stacks", "SIGABRT: abort", "agent.(*Agent).superviseStop", `"cause":"hang"`} {
		if !strings.Contains(log, want) {
			r.Errorf("the log has no %q:\n%s", want, log)
		}
	}
	if <-running.done; running.err == nil {
		r.Errorf("the call that ran has an answer")
	}
	stop()
	r.Empty(limit)
}

// second tries to start another agent in the same place: it must be refused while anything of the first is left.
func (a *Agent) second() {
	r := a.round
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	c := exec.CommandContext(ctx, r.host.Binary, "agent", "--config", r.File("agent.yaml"), "--socket", r.File("second.sock"), "--runtime-dir", r.File("agent"))
	c.Env = append(os.Environ(), TokenEnv+"="+r.tree.Token, "PITBOSS_PYTHON="+r.host.Python)
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || a.Process.Gone(0) {
		r.Errorf("a second agent in the same directory: %v\n%s", err, out)
	}
}

// agentStopped: a pause is no hang, however long.
func agentStopped(r *Round) {
	const timeout = 3 * time.Second
	w, before := startBeating(r, timeout)
	running := w.begin("pause", `{"seconds": 7}`)
	w.agent.Process.Kill(syscall.SIGSTOP)
	w.Until("verdict", func() bool { return strings.Contains(w.agent.Log(), "stopped; leaving it alone") })
	r.pass(5*time.Second - timeout)
	w.agent.Process.Kill(syscall.SIGCONT)
	if <-running.done; running.err != nil {
		r.Errorf("the call that ran: %v", running.err)
	}
	w.unharmed(before)
	w.stopAgent()
}

// agentTraced: a debugger holds it.
func agentTraced(r *Round) {
	w, before := startBeating(r, 3*time.Second)
	free := r.trace(w.agent.Process.PID)
	w.Until("verdict", func() bool { return strings.Contains(w.agent.Log(), "traced; leaving it alone") })
	r.pass(5 * time.Second)
	free()
	w.unharmed(before)
	w.stopAgent()
}

// trace stops every thread of a process as a debugger does, until free is called or the round ends.
func (r *Round) trace(pid int) (free func()) {
	stopped, let, freed := make(chan error, 1), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(freed)
		runtime.LockOSThread() // the tracer is a thread
		defer runtime.UnlockOSThread()
		held, err := attachAll(pid)
		stopped <- err
		<-let
		for tid := range held {
			_ = unix.PtraceDetach(tid)
		}
	}()
	done := false
	free = func() {
		if !done {
			done = true
			close(let)
			<-freed
		}
	}
	r.Cleanup(free)
	if err := <-stopped; err != nil {
		r.Fatalf("cannot trace process %d: %v", pid, err)
	}
	return free
}

// attachAll attaches to the threads of a process, twice, because one may have started another meanwhile.
func attachAll(pid int) (held map[int]bool, err error) {
	held = map[int]bool{}
	for range 2 {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return held, err
		}
		for _, task := range tasks {
			tid, _ := strconv.Atoi(task.Name())
			if held[tid] {
				continue
			}
			if err := unix.PtraceAttach(tid); err != nil {
				return held, err
			}
			held[tid] = true
			for {
				var status unix.WaitStatus
				if _, err := unix.Wait4(tid, &status, unix.WALL, nil); err != unix.EINTR {
					break
				}
			}
		}
	}
	return held, nil
}

// agentStarved: it has the lowest priority there is, and every processor is wanted.
func agentStarved(r *Round, lasts time.Duration) {
	w, before := startBeating(r, 3*time.Second)
	stop := r.load()
	r.lowest(w.agent.Process.PID)
	r.pass(lasts)
	stop()
	if strings.Contains(w.agent.Log(), "starved; leaving it alone") {
		r.Note("judged: starved")
	}
	w.unharmed(before)
	w.stopAgent()
}

// agentLoaded: 50 threads per processor beside it, and nothing else.
func agentLoaded(r *Round, lasts time.Duration) {
	w, before := startBeating(r, 3*time.Second)
	stop := r.load()
	r.pass(lasts)
	stop()
	w.unharmed(before)
	w.stopAgent()
}
