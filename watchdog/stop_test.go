package watchdog

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func stubborn() script {
	s := beating()
	s.OnTERM, s.Children = "ignore", kinds()
	return s
}

func TestAnAgentThatIgnoresTermIsKilledAtTheDeadline(t *testing.T) {
	const deadline = 600 * time.Millisecond
	tr := startTree(t, stubborn(), options{flags: []string{"--stop-timeout", deadline.String()}})
	tr.ready(kindsOfEscape)
	start := time.Now()
	tr.signal(syscall.SIGTERM)
	tr.stdout.wait(t, "agent got SIGTERM", 1)
	tr.exit(70)
	if took := time.Since(start); took < deadline {
		t.Errorf("killed after %v, the deadline is %v", took, deadline)
	}
	if d := tr.certificate(); d.Cause != "stop timeout" || d.Killed != kindsOfEscape || d.Count != 0 || d.Proof != "ECHILD" {
		t.Errorf("certificate %+v", d)
	}
}

// A deadline of an hour is over two seconds and a grace after the second signal.
func TestASecondTermShortensTheDeadline(t *testing.T) {
	tr := startTree(t, stubborn(), options{flags: []string{"--stop-timeout", "1h"}})
	tr.ready(kindsOfEscape)
	tr.signal(syscall.SIGTERM)
	tr.stdout.wait(t, "agent got SIGTERM", 1)
	start := time.Now()
	tr.signal(syscall.SIGINT)
	tr.stdout.wait(t, "agent got SIGINT", 1)
	tr.exit(70)
	if took := time.Since(start); took < hurrySlack {
		t.Errorf("killed %v after the second signal, want %v and the grace", took, hurrySlack)
	}
	if d := tr.certificate(); d.Cause != "stop timeout" || d.Killed != kindsOfEscape {
		t.Errorf("certificate %+v", d)
	}
}

// The agent's own word for its stop comes before the watchdog's deadline, and is held to it.
func TestAnAgentIsHeldToItsOwnBudget(t *testing.T) {
	s := stubborn()
	s.Stopping = 300 * time.Millisecond
	tr := startTree(t, s, options{flags: []string{"--stop-timeout", "1h"}})
	tr.ready(kindsOfEscape)
	tr.exit(70)
	if d := tr.certificate(); d.Cause != "stop timeout" || d.Count != 0 {
		t.Errorf("certificate %+v", d)
	}
}

// A stopped agent must see its TERM before the deadline: CONT follows.
func TestAStoppedAgentIsContinuedByAStop(t *testing.T) {
	tr := startTree(t, beating(), options{flags: []string{"--stop-timeout", "1h"}})
	tr.ready(1)
	tr.signalAgent(syscall.SIGSTOP)
	tr.signal(syscall.SIGTERM)
	tr.exit(0)
}

// --die-with-parent means the process, not the thread that made the watchdog: that one is gone before the agent is up.
func TestItDiesWithItsParentProcess(t *testing.T) {
	dir := t.TempDir()
	command := append([]string{binary, "--runtime-dir", dir, "--die-with-parent", "PARENT", "--"}, agentCommand(beating())...)
	tr := startCommand(t, []string{os.Args[0], "role=parent", strings.Join(command, "\n")}, options{bare: true})
	tr.ready(1)
	dog, _ := strconv.Atoi(strings.Fields(tr.stdout.wait(t, "started", 1))[1])
	for i := range 5 { // the guardian answers although its maker, the thread, is gone
		if err := unix.Kill(dog, unix.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		tr.stdout.wait(t, "agent got SIGUSR2", i+1)
	}
	if tr.stderr.has("stopping") {
		t.Fatal("the end of a thread was taken for the end of its process")
	}
	tr.signal(syscall.SIGKILL)
	<-tr.done
	tr.stdout.wait(t, "agent got SIGTERM", 1)
	tr.nobodyLeft()
}

// nobodyLeft waits for a tree whose top the test is not the parent of.
func (tr *tree) nobodyLeft() {
	tr.t.Helper()
	left := tr.alive()
	for end := time.Now().Add(patience); len(left) > 0 && time.Now().Before(end); left = tr.alive() {
		<-time.After(5 * time.Millisecond)
	}
	if len(left) > 0 {
		tr.t.Fatalf("%v are left", left)
	}
}

func TestAWrongParentIsRefused(t *testing.T) {
	for _, pid := range []string{"1", strconv.Itoa(1 << 22)} {
		out, err := exec.Command(binary, "--die-with-parent", pid, "--", "true").CombinedOutput()
		code := err.(*exec.ExitError).ExitCode()
		if code != exitInternal || !strings.Contains(string(out), "cannot watch process "+pid) {
			t.Errorf("--die-with-parent %s: exit %d, %s", pid, code, out)
		}
	}
}

func TestTheLockIsFreeOnlyWhenBothAreGone(t *testing.T) {
	lock := t.TempDir() + "/agent.lock"
	o := options{flags: []string{"--lock", lock}}
	first := startTree(t, script{Hello: true, Beat: 50 * time.Millisecond, OnTERM: "default"}, o)
	first.ready(0)
	first.signal(syscall.SIGKILL)
	<-first.done
	if len(first.alive()) != 1 {
		t.Fatalf("the agent should live on: %v", first.alive())
	}
	second := startTree(t, script{Hello: true}, o)
	second.exit(exitLocked)
	if want := "held by pid " + strconv.Itoa(first.cmd.Process.Pid); !second.stderr.has(want) {
		t.Errorf("stderr says not %q: %s", want, second.stderr)
	}
	first.signalAgent(syscall.SIGKILL)
	first.nobodyLeft()
	third := startTree(t, script{Hello: true, Beat: 50 * time.Millisecond}, o)
	third.ready(0)
	third.signal(syscall.SIGTERM)
	third.exit(0)
}

// What the agent may not say is refused by name, costs nothing, and the kill path works afterwards.
func TestWrongMessagesAreRefused(t *testing.T) {
	s := beating()
	s.Wrong = true
	tr := startTree(t, s, options{})
	tr.ready(1)
	before := descriptors(t, tr.cmd.Process.Pid)
	for name, errno := range map[string]string{"no-descriptor": "EBADMSG", "two-descriptors": "EBADMSG", "three-descriptors": "EMFILE", "no-pidfd": "EBADF",
		"half-a-pool": "EBADMSG", "version": "EPROTO", "kind": "EPROTO", "of-the-watchdog": "EPROTO", "unknown-release": "ESRCH", "second-hello": "EALREADY"} {
		if want := "wrong " + name + " NACK " + errno; !tr.stdout.has(want) {
			t.Errorf("no %q", want)
		}
	}
	tr.signalAgent(syscall.SIGUSR1) // one message that is right
	tr.stdout.wait(t, "guarded 1", 1)
	if after := descriptors(t, tr.cmd.Process.Pid); after != before+1 {
		t.Errorf("%d descriptors after the refusals, %d with one more guarded: want one more", before, after)
	}
	quiet := startTree(t, beating(), options{})
	quiet.ready(1)
	if n := descriptors(t, quiet.cmd.Process.Pid); n != before {
		t.Errorf("%d descriptors after ten refusals, %d without", before, n)
	}
	for _, tr := range []*tree{tr, quiet} {
		tr.signalAgent(syscall.SIGKILL)
		tr.exit(70)
	}
}

func descriptors(t *testing.T, pid int) int {
	t.Helper()
	all, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// Versions must be equal: the agent is told both and ends; the watchdog passes its status on.
func TestAnotherVersionIsRefused(t *testing.T) {
	tr := startTree(t, script{Hello: true, Version: "9.9.9", ExitNow: true, NoBye: true, Bye: 70}, options{})
	tr.ready(0)
	if !tr.stdout.has("hello NACK") || !tr.stdout.has("9.9.9") {
		t.Error("the agent was not told of the versions")
	}
	tr.exit(70)
}
