package watchdog

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// quickTimeout is several times what a loaded machine may keep a played agent from its next beat.
const quickTimeout = 500 * time.Millisecond

func quick() options { return options{flags: []string{"--agent-timeout", quickTimeout.String()}} }

func beating() script {
	return script{Hello: true, Grace: 100 * time.Millisecond, Beat: 20 * time.Millisecond, Children: []string{"setsid"}}
}

// silentFor waits until the agent is judged to be silent for this reason, then for several more timeouts, in which a wrong verdict
// would kill it. The wait is the thing that is tested.
func (tr *tree) silentFor(reason string) {
	tr.t.Helper()
	tr.stderr.wait(tr.t, reason+"; leaving it alone", 1)
	<-time.After(4 * quickTimeout)
	if tr.stderr.has("killing it") || len(tr.alive()) < 3 {
		tr.t.Fatalf("a %s agent was not left alone", reason)
	}
}

// revives: the agent beats again and ends as if nothing had been.
func (tr *tree) revives() {
	tr.t.Helper()
	tr.stderr.wait(tr.t, "beats again", 1)
	tr.signal(syscall.SIGTERM)
	tr.exit(0)
}

func TestAStoppedAgentIsHeld(t *testing.T) {
	tr := startTree(t, beating(), quick())
	tr.ready(1)
	tr.signalAgent(syscall.SIGSTOP)
	tr.silentFor("stopped")
	tr.signalAgent(syscall.SIGCONT)
	tr.revives()
}

func TestATracedAgentIsHeld(t *testing.T) {
	tr := startTree(t, beating(), quick())
	tr.ready(1)
	tracer := startTracer(t, "stop", tr.agent)
	tr.silentFor("traced")
	_ = tracer.Process.Kill() // the kernel lets the agent go
	tr.revives()
}

// startTracer starts a process of ours, outside the tree, that traces pid.
func startTracer(t *testing.T, mode string, pid int) *exec.Cmd {
	t.Helper()
	r, w := pipe(t)
	cmd := exec.Command(os.Args[0], "role=tracer", mode+":"+strconv.Itoa(pid))
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	collect(r).wait(t, "tracing", 1)
	return cmd
}

// newCgroup makes a cgroup of version 2; a machine where that cannot be done cannot run this test.
func newCgroup(t *testing.T) string {
	t.Helper()
	for _, mount := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		dir := filepath.Join(mount, fmt.Sprintf("watchdog-test-%d-%d", os.Getpid(), time.Now().UnixNano()))
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		if _, err := os.Stat(dir + "/cgroup.kill"); err != nil {
			_ = os.Remove(dir)
			continue
		}
		t.Cleanup(func() {
			_ = os.WriteFile(dir+"/cgroup.freeze", []byte("0"), 0)
			_ = os.WriteFile(dir+"/cgroup.kill", []byte("1"), 0)
			for end := time.Now().Add(patience); os.Remove(dir) != nil && time.Now().Before(end); {
				<-time.After(time.Millisecond)
			}
		})
		return dir
	}
	t.Skip("needs root and a cgroup v2 hierarchy of Linux 5.14 or later")
	return ""
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0); err != nil {
		t.Fatal(err)
	}
}

func TestAFrozenAgentIsHeld(t *testing.T) {
	dir := newCgroup(t)
	tr := startTree(t, beating(), quick())
	tr.ready(1)
	writeFile(t, dir+"/cgroup.procs", strconv.Itoa(tr.agent))
	writeFile(t, dir+"/cgroup.freeze", "1")
	tr.silentFor("frozen")
	writeFile(t, dir+"/cgroup.freeze", "0")
	tr.revives()
}

// newCgroupV1 makes a cgroup of version 1 below a controller; a machine without that cannot run this test.
func newCgroupV1(t *testing.T, controller string) string {
	t.Helper()
	dir := filepath.Join(cgroupRoot, controller, fmt.Sprintf("watchdog-test-%d-%d", os.Getpid(), time.Now().UnixNano()))
	if _, err := os.Stat(filepath.Join(cgroupRoot, controller, "cgroup.procs")); err != nil {
		t.Skipf("needs the cgroup v1 hierarchy of %s: %v", controller, err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skip("needs root: ", err)
	}
	t.Cleanup(func() {
		if controller == "freezer" {
			_ = os.WriteFile(dir+"/freezer.state", []byte("THAWED"), 0)
		}
		for end := time.Now().Add(patience); os.Remove(dir) != nil; <-time.After(time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("cannot remove %s", dir)
				return
			}
			// What a failed test has left in it goes back to where it came from.
			pids, _ := os.ReadFile(dir + "/cgroup.procs")
			for _, pid := range strings.Fields(string(pids)) {
				_ = os.WriteFile(filepath.Join(cgroupRoot, controller, "cgroup.procs"), []byte(pid), 0)
			}
		}
	})
	return dir
}

// A freezer of version 1 shows a sleeper in the state D, and not in its wait channel.
func TestAnAgentInAFreezerOfVersionOneIsHeld(t *testing.T) {
	dir := newCgroupV1(t, "freezer")
	tr := startTree(t, beating(), quick())
	tr.ready(1)
	writeFile(t, dir+"/cgroup.procs", strconv.Itoa(tr.agent))
	writeFile(t, dir+"/freezer.state", "FROZEN")
	tr.silentFor("frozen")
	writeFile(t, dir+"/freezer.state", "THAWED")
	tr.revives()
}

// An agent that dies already is not killed while the kernel writes its memory: a core would be cut short.
func TestAnAgentThatDumpsCoreIsHeld(t *testing.T) {
	pattern, _ := os.ReadFile("/proc/sys/kernel/core_pattern")
	if strings.ContainsAny(string(pattern), "|/@") {
		t.Skipf("this host's cores go to %q and not to the working directory, and that is not ours to change", pattern)
	}
	for size := 128; ; size *= 2 { // until the dump takes long enough here to be judged
		if size > 4096 {
			t.Fatal("a core of 4 GiB was written within the timeout")
		}
		if dumpCore(t, size) {
			return
		}
	}
}

// dumpCore lets an agent of that many MiB dump core, and reports whether it was judged while it did.
func dumpCore(t *testing.T, size int) (judged bool) {
	t.Helper()
	home, err := os.MkdirTemp("/dev/shm", "watchdog-test-") // in memory: a busy disk would take minutes for it
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(home)
	s := beating()
	s.Memory, s.Children, s.Hang = size, nil, "dump"
	tr := startTree(t, s, options{flags: quick().flags, shell: "cd " + home + ` && ulimit -c unlimited && exec "$@"`})
	tr.ready(0)
	tr.signalAgent(syscall.SIGUSR2)
	tr.diesWithin(2 * time.Minute)
	tr.exit(70)
	if tr.stderr.has("killing it") {
		t.Error("it was killed while it dumped core")
	}
	cores, _ := filepath.Glob(home + "/core*")
	if len(cores) != 1 {
		t.Fatalf("cores %v", cores)
	}
	var st unix.Stat_t
	if err := unix.Stat(cores[0], &st); err != nil || st.Size < int64(size)<<20 {
		t.Errorf("the core of %d MiB has %d bytes: %v", size, st.Size, err)
	}
	return tr.stderr.has("coredump; leaving it alone")
}

// An agent that could run and does not beat is asked for its stacks, which is the end of a Go program.
func TestAHangingAgentShowsItsStacks(t *testing.T) {
	s := beating() // until its children are there, however slow the host
	s.Children, s.Hang = kinds(), "sleep"
	tr := startTree(t, s, quick())
	tr.ready(kindsOfEscape)
	tr.signalAgent(syscall.SIGUSR2)
	tr.exit(70)
	for _, want := range []string{"has not beaten for " + quickTimeout.String() + ": hung", "SIGABRT: abort", "goroutine "} {
		if !tr.stderr.has(want) {
			t.Errorf("stderr has no %q", want)
		}
	}
	if tr.stderr.has("is still there") {
		t.Error("an agent that died of ABRT was killed as well")
	}
	if d := tr.certificate(); d.Cause != "hang" || d.Killed != kindsOfEscape || d.Count != 0 {
		t.Errorf("certificate %+v", d)
	}
}

// ABRT to the watchdog is the hang path on order: ABRT, two seconds, KILL, clean-up.
func TestAbortOfTheWatchdog(t *testing.T) {
	s := beating()
	s.OnABRT, s.Children = "ignore", kinds()
	tr := startTree(t, s, options{})
	tr.ready(kindsOfEscape)
	start := time.Now()
	tr.signal(syscall.SIGABRT)
	tr.stdout.wait(t, "agent got SIGABRT", 1)
	tr.exit(70)
	if took := time.Since(start); took < abortGrace {
		t.Errorf("killed after %v, its stacks may take %v", took, abortGrace)
	}
	if d := tr.certificate(); d.Cause != "abort" || d.Killed != kindsOfEscape || !tr.stderr.has("is still there (abort): killing it") {
		t.Errorf("certificate %+v", d)
	}
}

// QUIT, USR1 and HUP are passed on and change nothing; TSTP is not obeyed.
func TestOtherSignalsOfTheWatchdog(t *testing.T) {
	tr := startTree(t, beating(), options{attr: &syscall.SysProcAttr{Setsid: true}}) // no terminal: HUP is for the agent
	tr.ready(1)
	for _, s := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR2} {
		tr.signal(s)
		tr.stdout.wait(t, "agent got "+unix.SignalName(s), 1)
	}
	tr.signal(syscall.SIGTSTP)
	tr.stderr.wait(t, "not stopping for SIGTSTP", 1)
	tr.signal(syscall.SIGTERM)
	tr.exit(0)
	if n := strings.Count(tr.stdout.String(), "agent got"); n != 4 {
		t.Errorf("the agent got %d signals, want QUIT, HUP, USR2 and TERM once each", n)
	}
}

// A background job of a shell without job control, and nohup, start us with INT and HUP ignored: that stays so.
func TestIgnoredSignalsStayIgnored(t *testing.T) {
	tr := startTree(t, beating(), options{shell: `trap "" INT HUP; exec "$@"`})
	tr.ready(1)
	tr.signal(syscall.SIGINT)
	tr.signal(syscall.SIGHUP)
	tr.signal(syscall.SIGUSR2) // comes after them
	tr.stdout.wait(t, "agent got SIGUSR2", 1)
	if tr.stdout.has("SIGINT") || tr.stdout.has("SIGHUP") {
		t.Error("an ignored signal was passed on")
	}
	tr.signal(syscall.SIGTERM)
	tr.exit(0)
}
