package watchdog

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

const kindsOfEscape = 3

// kinds are a stubborn child, one in a session of its own, and a double-forked daemon.
func kinds() []string { return []string{"stubborn", "setsid", "daemon"} }

func TestASilentKillOfTheAgentLeavesNothing(t *testing.T) {
	tr := startTree(t, script{Hello: true, Grace: 200 * time.Millisecond, Beat: 100 * time.Millisecond, Children: kinds()}, options{})
	tr.ready(kindsOfEscape)
	if n := len(tr.alive()); n < 2+kindsOfEscape {
		t.Fatalf("only %d processes before the kill: the counter is blind", n)
	}
	tr.signalAgent(syscall.SIGKILL)
	tr.exit(70)
	d := tr.certificate()
	if d.Cause != "signal SIGKILL" || d.AgentPID != tr.agent || d.Killed < kindsOfEscape || d.Count != 0 || d.Proof != "ECHILD" || d.Tier != "tree" {
		t.Errorf("certificate %+v", d)
	}
}

// The same tree without the watchdog leaks all three, and the counter sees them.
func TestUnguardedControl(t *testing.T) {
	tr := startTree(t, script{Children: kinds()}, options{bare: true})
	tr.ready(kindsOfEscape)
	tr.signalAgent(syscall.SIGKILL)
	<-tr.done
	left := tr.alive()
	for end := time.Now().Add(patience); len(left) > kindsOfEscape && time.Now().Before(end); left = tr.alive() {
		runtime.Gosched() // the daemon's first half may still be on its way out
	}
	if len(left) != kindsOfEscape {
		t.Errorf("%d processes are left, want %d", len(left), kindsOfEscape)
	}
}

func TestAKeeperHasItsGrace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "finished")
	tr := startTree(t, script{Hello: true, Grace: time.Second, Beat: 100 * time.Millisecond, Children: []string{"keeper:500ms:" + file}}, options{})
	tr.ready(1)
	tr.signalAgent(syscall.SIGKILL)
	tr.exit(70)
	if _, err := os.Stat(file); err != nil {
		t.Errorf("the keeper was killed inside its grace: %v", err)
	}
	if d := tr.certificate(); d.Killed != 0 {
		t.Errorf("certificate %+v", d)
	}
}

func TestAVoluntaryEndHasNoCertificate(t *testing.T) {
	tr := startTree(t, script{Hello: true, Beat: 100 * time.Millisecond, Bye: 5}, options{})
	tr.ready(0)
	tr.signal(syscall.SIGTERM)
	tr.exit(5)
	tr.noCertificate()
}

func TestAHangingAgentIsAbortedThenKilled(t *testing.T) {
	tr := startTree(t, script{Hello: true, OnABRT: "ignore", Children: []string{"setsid"}}, options{flags: []string{"--agent-timeout", "500ms"}})
	tr.ready(1)
	tr.exit(70)
	if d := tr.certificate(); !strings.Contains(d.Cause, "hang") || d.Count != 0 {
		t.Errorf("certificate %+v", d)
	}
}

func TestTheLockIsHeldByOneTreeOnly(t *testing.T) {
	lock := filepath.Join(t.TempDir(), "agent.lock")
	first := startTree(t, script{Hello: true, Beat: 100 * time.Millisecond}, options{flags: []string{"--lock", lock}})
	first.ready(0)
	second := startTree(t, script{Hello: true}, options{flags: []string{"--lock", lock}})
	second.exit(75)
	second.stderr.wait(t, "cannot lock", 1)
	first.signal(syscall.SIGTERM)
	first.exit(0)
}
