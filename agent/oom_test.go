package agent

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestASilentSIGKILLIsToldApartFromTheKernels: the counter is a file of ours, the deaths are real. Only a SIGKILL that nobody ordered,
// in whose time the counter grew, bears the evidence.
func TestASilentSIGKILLIsToldApartFromTheKernels(t *testing.T) {
	if text, err := os.ReadFile("/proc/vmstat"); err != nil || !strings.Contains(string(text), "\noom_kill ") {
		t.Fatalf("this kernel does not count: %v", err)
	}
	vmstat := filepath.Join(t.TempDir(), "vmstat")
	count := func(n string) { write(t, vmstat, "nr_free_pages 9\noom_kill "+n+"\nother 1\n", 0o600) }
	count("3")
	a := startTestAgent(t, testTools, nil, func(a *Agent) { a.vmstat = vmstat })
	for _, c := range []struct {
		name, before, after, want string
		order                     bool
		signal                    syscall.Signal
	}{
		{"nobody, nothing counted", "3", "3", "", false, syscall.SIGKILL},
		{"nobody, two counted", "3", "5", "out-of-memory killer ended 2 of this host's processes", false, syscall.SIGKILL},
		{"a crash, one counted", "5", "6", "", false, syscall.SIGSEGV},
		{"an administrator, one counted", "6", "7", "", true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			waitReady(t, a)
			running := begin(t, a, request("deadlock", `{}`))
			pid := workerOf(a, runs(t, a)).PID
			count(c.after)
			want := WorkerDied
			if c.order {
				want = CancelledByAdmin
				calls, err := a.Calls("")
				if err != nil || len(calls) != 1 {
					t.Fatal(calls, err)
				}
				if _, err := a.CancelCall(calls[0].Call); err != nil {
					t.Fatal(err)
				}
			} else if err := syscall.Kill(pid, c.signal); err != nil {
				t.Fatal(err)
			}
			e := wantReason(t, (<-running).err, want)
			if pm := e.PostMortem; pm == nil || (c.want == "") != (pm.Evidence == "") || !strings.Contains(pm.Evidence, c.want) {
				t.Errorf("%+v", pm)
			}
			await(t, 20*time.Second, "replaced", func() bool { return a.Status().Pools[0].Ready == 1 })
		})
	}
}
