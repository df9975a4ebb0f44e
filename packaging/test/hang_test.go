//go:build booted

package booted

import (
	"debug/elf"
	"debug/gosym"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hang makes the agent stop beating for good: the function that says "I live" jumps to itself from now on. The process is not stopped,
// starved or traced; it can run and does not do its work, as after a deadlock or an endless loop.
func hang(t *testing.T, pid int) {
	t.Helper()
	file, err := elf.Open("/usr/bin/pitboss")
	must(t, err)
	defer file.Close()
	lines, err := file.Section(".gopclntab").Data()
	must(t, err)
	table, err := gosym.NewTable(nil, gosym.NewLineTable(lines, file.Section(".text").Addr))
	must(t, err)
	beat := table.LookupFunc("github.com/pitboss-run/pitboss/agent.(*guard).beat")
	if beat == nil {
		t.Fatal("the agent has no function guard.beat")
	}
	if file.Machine != elf.EM_X86_64 {
		t.Fatalf("no jump-to-self is written here for %v", file.Machine)
	}
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_WRONLY, 0)
	must(t, err)
	defer memory.Close()
	_, err = memory.WriteAt([]byte{0xeb, 0xfe}, int64(beat.Entry)) // jmp to itself
	must(t, err)
}

// TestAgentHang: our watchdog sees it long before the manager would, the stacks are in the journal, and a new agent serves.
func TestAgentHang(t *testing.T) {
	before := serving(t)
	since, count := markJournal(t), restarts(t)
	running := begin(t, "nap", "seconds=600")
	start := time.Now()
	hang(t, before.Agent.PID)
	await(t, "the service restarted", func() bool { return restarts(t) == count+1 && property(t, service, "SubState") == "running" })
	took := time.Since(start)
	figure("hang of the agent to a new ready one", "%.1f s", took.Seconds())
	if took > 30*time.Second { // WatchdogSec=
		t.Errorf("took %v, the manager's own watchdog would have been as fast", took)
	}
	if out, code := running.end(t); code != 69 {
		t.Errorf("its call: %q, exit %d", out, code)
	}
	said := journal(t, since, service)
	for _, want := range []string{"has not beaten for 8s: hung", "SIGABRT: abort", "goroutine ", "agent.(*guard).beat"} {
		if !strings.Contains(said, want) {
			t.Errorf("the journal has no %q", want)
		}
	}
	if strings.Contains(said, "Watchdog timeout") {
		t.Error("the manager acted")
	}
	after := ready(t)
	nobodyElse(t, after.Agent.RunID)
	answers(t)
}

// TestWatchdogHang: a watchdog that stands still is ended by the manager, with the stacks of the agent in the journal.
func TestWatchdogHang(t *testing.T) {
	before := serving(t)
	since, count := markJournal(t), restarts(t)
	running := begin(t, "nap", "seconds=600")
	start := time.Now()
	must(t, syscall.Kill(before.Watchdog.PID, syscall.SIGSTOP))
	awaitJournal(t, since, "Watchdog timeout")
	await(t, "the service restarted", func() bool { return restarts(t) == count+1 && property(t, service, "SubState") == "running" })
	figure("SIGSTOP of the watchdog to a new ready one", "%.1f s", time.Since(start).Seconds())
	if out, code := running.end(t); code != 69 {
		t.Errorf("its call: %q, exit %d", out, code)
	}
	said := journal(t, since, service)
	for _, want := range []string{"SIGABRT: abort", "goroutine ", "agent.(*Agent).Run"} {
		if !strings.Contains(said, want) {
			t.Errorf("the journal has no %q", want)
		}
	}
	after := ready(t)
	nobodyElse(t, after.Agent.RunID)
	answers(t)
}
