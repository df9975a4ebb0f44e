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

// hang makes the agent stop beating for good: the function that says "I live" waits for ever from now on, in the kernel and without
// the Go runtime's knowledge, as a goroutine does that a library has blocked. The process is not stopped, starved or traced; it can run
// and does not do its work.
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
		t.Fatalf("no endless pause is written here for %v", file.Machine)
	}
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_WRONLY, 0)
	must(t, err)
	defer memory.Close()
	// mov $34, %eax (pause(2)); syscall; jmp to the beginning, because the runtime's own signals end a pause
	_, err = memory.WriteAt([]byte{0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7}, int64(beat.Entry))
	must(t, err)
}

// TestAgentHang: our watchdog sees it and acts, the manager need not; the stacks are in the journal, and a new agent serves.
func TestAgentHang(t *testing.T) {
	before := serving(t)
	since, count := markJournal(t), restarts(t)
	running := begin(t, "nap", "seconds=600")
	start := time.Now()
	hang(t, before.Agent.PID)
	await(t, "the service restarted", func() bool { return restarts(t) == count+1 && property(t, service, "SubState") == "running" })
	figure("hang of the agent to a new ready one", "%.1f s", time.Since(start).Seconds())
	if out, code := running.end(t); code != 69 {
		t.Errorf("its call: %q, exit %d", out, code)
	}
	said := journal(t, since, service)
	for _, want := range []string{"has not beaten for 8s: hung", "SIGABRT: abort", "goroutine ", "agent.(*Agent).superviseStop"} {
		if !strings.Contains(said, want) {
			t.Errorf("the journal has no %q", want)
		}
	}
	// The kernel chooses the thread that gets the signal. When it is another one, Go's runtime cannot read the stack of the one that
	// hangs and says so in its place.
	if !strings.Contains(said, "agent.(*guard).beat") && !strings.Contains(said, "goroutine running on other thread; stack unavailable") {
		t.Error("the journal says nothing of the goroutine that hangs")
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
