package agent

import (
	"fmt"
	"reflect"
)

// oomKills is how many processes the kernel has killed for want of memory since boot, on the whole host (proc(5), Linux 4.13); 0 when
// it does not say.
func oomKills(vmstat string) uint64 { return readField(vmstat, "oom_kill ") }

// oomEvidence says what the kernel's out-of-memory killer has to do with a SIGKILL by nobody known; empty for nothing. The count of the
// worker's own cgroup is proof, that of the host a hint.
func (w *worker) oomEvidence() string {
	if n := w.cgroup.oomKills(); n > 0 {
		text := fmt.Sprintf("the kernel's out-of-memory killer ended %d of this worker's processes (oom_kill in its memory.events)", n)
		if w.cfg.Limits.Memory > 0 {
			text += "; limits.memory is " + yamlScalar(reflect.ValueOf(w.cfg.Limits.Memory))
		}
		return text
	}
	return hostOOMEvidence(w.oomKills, oomKills(w.pool.agent.vmstat))
}

// hostOOMEvidence says that a SIGKILL by nobody known may have been the kernel's; empty when it killed nobody meanwhile. Without a cgroup
// the kernel does not say whom it killed.
func hostOOMEvidence(before, after uint64) string {
	if after <= before {
		return ""
	}
	return fmt.Sprintf("the kernel's out-of-memory killer ended %d of this host's processes while it ran (oom_kill in /proc/vmstat)", after-before)
}
