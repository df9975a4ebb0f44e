package watchdog

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// besideStranger starts a watchdog that is born with a child: `sidecar & exec pitboss …`. It returns the stranger's pid.
func besideStranger(t *testing.T, s script, o options) (*tree, int) {
	t.Helper()
	o.shell = `sleep 600 & echo "stranger $!"; exec "$@"`
	tr := startTree(t, s, o)
	tr.ready(len(s.Children))
	stranger, err := strconv.Atoi(strings.Fields(tr.stdout.wait(t, "stranger", 1))[1])
	if err != nil {
		t.Fatal(err)
	}
	return tr, stranger
}

// onlyStranger: the started process has ended with this code, and of its tree the stranger alone is left.
func (tr *tree) onlyStranger(stranger, code int) {
	tr.t.Helper()
	<-tr.done
	if left := tr.alive(); len(left) != 1 || left[0] != stranger {
		tr.t.Errorf("%v are left, want the stranger %d alone", left, stranger)
	}
	if got := tr.cmd.ProcessState.ExitCode(); got != code {
		tr.t.Errorf("exit code %d, want %d", got, code)
	}
}

func TestAStrangerSurvives(t *testing.T) {
	m := startServiceManager(t)
	s := beating()
	s.Children, s.Notify = kinds(), "READY=1"
	tr, stranger := besideStranger(t, s, options{env: m.env("WATCHDOG_USEC=300000")})
	if parent := parentOf(t, parentOf(t, tr.agent)); parent != tr.cmd.Process.Pid {
		t.Errorf("the grandparent of the agent is %d, want the started process %d", parent, tr.cmd.Process.Pid)
	}
	if parent := parentOf(t, stranger); parent != tr.cmd.Process.Pid {
		t.Errorf("the stranger's parent is %d", parent)
	}
	m.heard.wait(t, " READY=1", 1)
	m.heard.wait(t, " WATCHDOG=1", 3)
	tr.signalAgent(syscall.SIGKILL)
	tr.onlyStranger(stranger, exitInternal)
	if d := tr.certificate(); d.Killed != kindsOfEscape || d.Count != 0 || d.Proof != "ECHILD" {
		t.Errorf("certificate %+v", d)
	}
	m.onlyFrom(t, tr.cmd.Process.Pid)
}

// Signals go through, the status of the agent comes back, and STOPPING=1 is said once by the main process.
func TestTheOuterProcessTakesTheStatusOver(t *testing.T) {
	m := startServiceManager(t)
	s := beating()
	s.Bye, s.Children = 7, nil
	tr, stranger := besideStranger(t, s, options{env: m.env()})
	tr.signal(syscall.SIGTERM)
	tr.stdout.wait(t, "agent got SIGTERM", 1)
	tr.onlyStranger(stranger, 7)
	tr.noCertificate()
	m.heard.wait(t, " STOPPING=1", 1)
	m.onlyFrom(t, tr.cmd.Process.Pid)
	if m.count(" STOPPING=1") != 1 {
		t.Errorf("heard:\n%s", m.heard)
	}
}

// The inner process watches the outer one: without it nobody would pass a stop on.
func TestTheInnerProcessStopsWithTheOuter(t *testing.T) {
	tr, stranger := besideStranger(t, beating(), options{})
	tr.signal(syscall.SIGKILL)
	tr.stdout.wait(t, "agent got SIGTERM", 1)
	<-tr.done
	_ = unix.Kill(stranger, unix.SIGKILL)
	tr.nobodyLeft()
}

// A death of the inner process by a signal is told as a shell does. Its agent lives on, as any agent whose watchdog died.
func TestTheInnerProcessDies(t *testing.T) {
	tr, _ := besideStranger(t, beating(), options{})
	if err := unix.Kill(parentOf(t, tr.agent), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-tr.done
	if got := tr.cmd.ProcessState.ExitCode(); got != 128+9 {
		t.Errorf("exit code %d, want 137", got)
	}
	if !slices.Contains(tr.alive(), tr.agent) {
		t.Error("the agent did not live on")
	}
}

// A tracer that keeps the status of the inner process makes the outer one wait, not spin.
func TestTheOuterProcessWaitsForATracer(t *testing.T) {
	tr, stranger := besideStranger(t, beating(), options{})
	inner := parentOf(t, tr.agent)
	tracer := startTracer(t, "zombie", inner)
	if err := tracer.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(inner, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-time.After(time.Second) // of waiting, in which a spinning process would use a processor
	select {
	case <-tr.done:
		t.Fatal("the status was taken over before there was one")
	default:
	}
	_ = tracer.Process.Kill()
	<-tr.done
	usage := tr.cmd.ProcessState
	if cpu := usage.UserTime() + usage.SystemTime(); usage.ExitCode() != 128+9 || cpu > 500*time.Millisecond {
		t.Errorf("exit code %d after %v of processor time", usage.ExitCode(), cpu)
	}
	_ = unix.Kill(stranger, unix.SIGKILL)
}

func TestInnerIsForWatchdogsOnly(t *testing.T) {
	for _, env := range []string{"", "PITBOSS_INNER_FD=0", "PITBOSS_INNER_FD=99", "PITBOSS_INNER_FD=x"} {
		cmd := exec.Command(binary, "--inner", "--", "true")
		cmd.Env = append(os.Environ(), env)
		out, err := cmd.CombinedOutput()
		if err == nil || err.(*exec.ExitError).ExitCode() != exitUsage || !strings.Contains(string(out), "cannot use --inner") {
			t.Errorf("%q: %v %s", env, err, out)
		}
	}
}

// As PID 1 of a pid namespace the started process adopts strangers: one that entered the namespace survives the agent's clean-up
// and is reaped when it ends; when PID 1 exits, the kernel ends the namespace.
func TestAsPID1(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for a pid namespace")
	}
	s := beating()
	s.Children = kinds()
	s.Grace = 0
	tr := startTree(t, s, options{wrap: []string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc"}})
	tr.stdout.wait(t, " ready", 1)
	tr.stdout.wait(t, " up", kindsOfEscape)
	first := childWith(t, tr.cmd.Process.Pid, "pitboss-watchdog") // PID 1, as seen from here
	agent := childWith(t, childWith(t, first, "--inner"), "role=agent")

	// An orphan as of `docker exec`: its parent in the namespace ends at once, and PID 1 adopts it.
	enter := exec.Command("nsenter", "-t", strconv.Itoa(first), "-p", "-m", "--", "sh", "-c", "sleep 600 >/dev/null 2>&1 & exec true")
	enter.Env = append(os.Environ(), testEnv+"="+tr.token)
	if out, err := enter.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	stranger := childWith(t, first, "sleep\x00600")
	if err := unix.Kill(stranger, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; <-time.After(time.Millisecond) {
		if _, err := os.Stat("/proc/" + strconv.Itoa(stranger)); err != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("PID 1 does not reap what it adopted")
		}
	}
	if err := unix.Kill(agent, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	tr.exit(exitInternal)
	if d := tr.certificate(); d.Killed != kindsOfEscape || d.Proof != "ECHILD" {
		t.Errorf("certificate %+v", d)
	}
}

// childWith waits for a child whose command line contains text.
func childWith(t *testing.T, parent int, text string) int {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); <-time.After(time.Millisecond) {
		lists, _ := filepath.Glob("/proc/" + strconv.Itoa(parent) + "/task/*/children")
		for _, list := range lists {
			b, _ := os.ReadFile(list)
			for _, child := range strings.Fields(string(b)) {
				line, _ := os.ReadFile("/proc/" + child + "/cmdline")
				if strings.Contains(string(line), text) {
					pid, _ := strconv.Atoi(child)
					return pid
				}
			}
		}
	}
	t.Fatalf("process %d has no child with %q", parent, text)
	return 0
}

func parentOf(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	parent, _ := strconv.Atoi(strings.Fields(text[strings.LastIndexByte(text, ')')+2:])[1])
	return parent
}
