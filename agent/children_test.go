package agent

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestNobodyIsReapedWhileAStrangerMayStillDie: a zombie takes the room that a fork bomb at its limit would fill. One that outlives its KILL
// holds nobody up.
func TestNobodyIsReapedWhileAStrangerMayStillDie(t *testing.T) {
	var swept []int
	c := &children{known: map[int]*pidfd{}, denied: map[int]bool{}, killed: map[int]time.Time{}, list: listChildren,
		onSweep: func(pid int) { swept = append(swept, pid) }, onLeft: func(s survivor) { t.Errorf("left: %+v", s) }}
	await(t, 10*time.Second, "rid of what other tests have left", func() bool { c.sweep(); return !c.unlisted() })
	for _, overdue := range []bool{false, true} {
		dead, living := exec.Command("true"), exec.Command("sleep", "600")
		must(t, dead.Start())
		must(t, living.Start())
		await(t, 10*time.Second, "a zombie", func() bool {
			stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", dead.Process.Pid))
			return strings.Contains(string(stat), ") Z ")
		})
		if overdue {
			c.killed[living.Process.Pid] = time.Now().Add(-strangerPatience)
		}
		swept = nil
		if found := c.sweep(); found != 2 || slices.Contains(swept, dead.Process.Pid) != overdue {
			t.Errorf("overdue %t: the first sweep found %d and reaped %v; %d was dead, %d lived", overdue, found, swept, dead.Process.Pid, living.Process.Pid)
		}
		await(t, 10*time.Second, "both reaped", func() bool { c.sweep(); return len(swept) == 2 })
		if len(c.killed) != 0 || c.unlisted() {
			t.Errorf("overdue %t: %v is still noted as killed, or a child is left", overdue, c.killed)
		}
		_, _ = dead.Wait(), living.Wait() // ECHILD: they were reaped above
	}
}
