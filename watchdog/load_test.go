package watchdog

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// perProcessor is how many threads of somebody else want each processor in these tests.
const perProcessor = 50

// playLoad burns as many threads as it is told until it is killed.
func playLoad(arg string) int {
	n, err := strconv.Atoi(arg)
	if err != nil {
		panic(err)
	}
	runtime.GOMAXPROCS(n + 1)
	for range n {
		go func() {
			for i := 0; i >= 0; i = (i + 1) & 0xffff {
			}
		}()
	}
	say("loading")
	select {}
}

// startLoad loads every processor until the test ends, and shows that it does.
func startLoad(t *testing.T) {
	t.Helper()
	n := perProcessor * runtime.NumCPU()
	r, w := pipe(t)
	cmd := exec.Command(os.Args[0], "role=load", strconv.Itoa(n))
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	collect(r).wait(t, "loading", 1)
	for end := time.Now().Add(patience); ; <-time.After(time.Millisecond) {
		running := 0
		states, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", cmd.Process.Pid))
		for _, name := range states {
			if b, _ := os.ReadFile(name); statState(string(b)) == 'R' {
				running++
			}
		}
		if running >= n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %d threads are runnable", running, n)
		}
	}
}

// playHang ends what an agent does besides being there.
func playHang(how string) {
	switch how {
	case "work": // beside its beats, which queue for their turn of 10 ms: with a quota of 1 % that takes seconds, however fast the machine
		for range 4 * runtime.GOMAXPROCS(0) {
			go playSpinner()
		}
	case "burn":
		playSpinner()
	case "sleep":
		select {}
	case "dump": // Go's own handler would write stacks first
		var byDefault [4]uintptr // struct sigaction of the kernel, all zero
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(syscall.SIGSEGV), uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0)
		_ = unix.Kill(os.Getpid(), syscall.SIGSEGV)
	}
}

// An agent of the lowest priority shares one processor with spinners: it wants to run and is not let.
func TestAStarvedAgentIsHeld(t *testing.T) {
	tr := startTree(t, beating(), quick())
	tr.ready(1)
	for range 4 {
		cmd := exec.Command(os.Args[0], "role=spin", "0")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		if err := eachThread(cmd.Process.Pid, pinToFirst); err != nil {
			t.Fatal(err)
		}
	}
	starve := func(tid int) error {
		return errors.Join(unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0), pinToFirst(tid))
	}
	if err := eachThread(tr.agent, starve); err != nil {
		t.Fatal(err)
	}
	tr.stderr.wait(t, "starved; leaving it alone", 1)
	tr.stderr.wait(t, "beats again", 1) // 0.1 % of a processor is enough for a beat now and then
	<-time.After(4 * quickTimeout)
	if tr.stderr.has("killing it") {
		t.Fatal("a starved agent was killed")
	}
	if err := eachThread(tr.agent, func(tid int) error {
		return unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Nice: -20}, 0)
	}); err != nil {
		t.Fatal(err)
	}
	tr.signal(syscall.SIGTERM)
	tr.exit(0)
}

func pinToFirst(tid int) error {
	var set unix.CPUSet
	set.Set(0)
	return unix.SchedSetaffinity(tid, &set)
}

// eachThread acts on every thread of a process, twice, because one may have started another meanwhile.
func eachThread(pid int, act func(tid int) error) error {
	for range 2 {
		tasks, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
		if err != nil {
			return err
		}
		for _, task := range tasks {
			tid, _ := strconv.Atoi(task.Name())
			if err := act(tid); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("thread %d: %w", tid, err)
			}
		}
	}
	return nil
}

// underLoad starts an agent that beats, and then the load.
func underLoad(t *testing.T, hang string, timeout time.Duration) *tree {
	t.Helper()
	s := script{Hello: true, Grace: 100 * time.Millisecond, Beat: timeout / 8, Hang: hang, Children: []string{"setsid"}}
	tr := startTree(t, s, options{flags: []string{"--agent-timeout", timeout.String()}})
	tr.ready(1)
	startLoad(t)
	return tr
}

// A hang that burns a processor of which it gets one part in fifty is found when it has had the time of hundreds of beats.
func TestAHangThatBurnsIsFoundUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	const timeout = 2 * time.Second
	tr := underLoad(t, "burn", timeout)
	start := time.Now()
	tr.signalAgent(syscall.SIGUSR2)
	// With perProcessor others it has one part in perProcessor+1; twice that time is for what else the host does.
	tr.diesWithin(timeout + 2*(perProcessor+1)*enough)
	t.Logf("dead %s after it began to hang", time.Since(start))
	tr.diedOfAHang()
}

// The same without a processor: there is nothing that the load could excuse.
func TestAHangThatSleepsIsFoundUnderLoad(t *testing.T) {
	const timeout = 2 * time.Second
	tr := underLoad(t, "sleep", timeout)
	start := time.Now()
	tr.signalAgent(syscall.SIGUSR2)
	tr.diesWithin(10 * timeout)
	t.Logf("dead %s after it began to hang", time.Since(start))
	tr.diedOfAHang()
}

func (tr *tree) diesWithin(limit time.Duration) {
	tr.t.Helper()
	select {
	case <-tr.done:
	case <-time.After(limit):
		tr.t.Fatalf("not found within %s", limit)
	}
}

func (tr *tree) diedOfAHang() {
	tr.t.Helper()
	tr.exit(70)
	if d := tr.certificate(); d.Cause != "hang" || d.Count != 0 {
		tr.t.Errorf("certificate %+v", d)
	}
	for _, want := range []string{": hung; asking for its stacks", "SIGABRT: abort"} {
		if !tr.stderr.has(want) {
			tr.t.Errorf("stderr has no %q", want)
		}
	}
}

// An agent that beats under that load is never judged by it.
func TestLoadAloneIsNoHang(t *testing.T) {
	const timeout = 3 * time.Second
	tr := underLoad(t, "", timeout)
	<-time.After(5 * timeout) // in which a wrong verdict would kill it
	if tr.stderr.has("hung") || len(tr.alive()) < 3 {
		t.Fatal("it was not left alone")
	}
	tr.signal(syscall.SIGTERM)
	tr.exit(0)
}

// A quota of which nothing is left starves as a load does, and shows in no run queue.
func TestAThrottledAgentIsHeld(t *testing.T) {
	dir := newCgroupV1(t, "cpu")
	s := beating()
	s.Hang = "work"
	tr := startTree(t, s, quick())
	tr.ready(1)
	writeFile(t, dir+"/cpu.cfs_period_us", "100000")
	writeFile(t, dir+"/cpu.cfs_quota_us", "1000")             // the least there is
	writeFile(t, dir+"/cgroup.procs", strconv.Itoa(tr.agent)) // first: with a whole processor its work would be a hang
	tr.signalAgent(syscall.SIGUSR2)
	tr.stderr.wait(t, "starved; leaving it alone", 1)
	<-time.After(8 * quickTimeout)
	if tr.stderr.has("killing it") {
		t.Fatal("a throttled agent was killed")
	}
	writeFile(t, dir+"/cpu.cfs_quota_us", "-1")
	tr.revives()
}
