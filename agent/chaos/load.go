package chaos

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// perProcessor is how many threads of somebody else want each processor under load.
const perProcessor = 50

// busy forks as many processes as it is told that do nothing but run. Each has a session of its own: where sched_autogroup_enabled is on,
// one session has one share of a processor, however many threads it has. They end with their parent, which ends with its standard input.
const busy = `
import os, sys
me = os.getpid()
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        os.setsid()
        while os.getppid() == me:
            for _ in range(100000):
                pass
        os._exit(0)
print("up", flush=True)
sys.stdin.read()
os._exit(0)
`

// load makes every processor wanted by perProcessor threads, until stop is called or the round ends, and shows that they are runnable.
func (r *Round) load() (stop func()) {
	n := perProcessor * runtime.NumCPU()
	c := exec.Command(r.host.Python, "-c", busy, itoa(n))
	c.Env = append(os.Environ(), TokenEnv+"="+r.tree.Token)
	in, err := c.StdinPipe()
	r.Must(err)
	out, err := c.StdoutPipe()
	r.Must(err)
	r.Must(c.Start())
	var all []*Process
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		_ = in.Close()
		_ = c.Wait()
		for _, p := range all {
			if !p.Gone(patience) {
				r.Errorf("process %d of the load did not end", p.PID)
			}
		}
	}
	r.Cleanup(stop)
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		r.Fatalf("the load did not begin: %v", err)
	}
	for _, pid := range ChildrenOf(c.Process.Pid) {
		all = append(all, r.pin(pid))
	}
	r.Until(fmt.Sprintf("%d runnable processes", n), func() bool {
		running := 0
		for _, p := range all {
			if stateOf(p.PID) == 'R' {
				running++
			}
		}
		return running == n
	})
	return stop
}

// cannotComeFirst says why an agent started here gets no higher priority than its workers.
func cannotComeFirst(*Host) string {
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		var raw int
		if raw, err = unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil {
			err = unix.Setpriority(unix.PRIO_PROCESS, 0, max(20-raw-10, -20))
		}
	}()
	<-done
	if err != nil {
		return "needs the right to raise a priority by ten steps, else a full host delays a substitute: CAP_SYS_NICE, or RLIMIT_NICE (LimitNICE=-10 of a unit)"
	}
	return ""
}

// stateOf is the state of a process's main thread as proc(5) has it, 0 when it is gone.
func stateOf(pid int) byte {
	fields := statOf(pid)
	if len(fields) == 0 {
		return 0
	}
	return fields[0][0]
}

// lowest gives every thread of a process the lowest priority there is, SCHED_IDLE; what it starts inherits it. Twice, because one may
// have started another meanwhile. Its session loses what it was raised by: among sessions the priority of threads counts for nothing
// (sched(7), "The autogroup feature").
func (r *Round) lowest(pid int) {
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", pid), []byte("0"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.Fatalf("cannot lower the priority of the session of process %d: %v", pid, err)
	}
	for range 2 {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		r.Must(err)
		for _, task := range tasks {
			var tid int
			_, _ = fmt.Sscan(task.Name(), &tid)
			err := unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
			if err != nil && err != syscall.ESRCH {
				r.Fatalf("cannot lower the priority of thread %d: %v", tid, err)
			}
		}
	}
}

// pass waits for a time that is itself what is tested; the user may interrupt.
func (r *Round) pass(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.ctx.Done():
		r.Fatalf("interrupted")
	}
}
