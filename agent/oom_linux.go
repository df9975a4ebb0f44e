package agent

import "fmt"

// oomKills is how many processes the kernel has killed for want of memory since boot, on the whole host (proc(5), Linux 4.13); 0 when
// it does not say.
func oomKills(vmstat string) uint64 { return readField(vmstat, "oom_kill ") }

// oomEvidence says that a SIGKILL by nobody known may have been the kernel's; empty when it killed nobody meanwhile. Without a cgroup
// the kernel does not say whom it killed.
func oomEvidence(before, after uint64) string {
	if after <= before {
		return ""
	}
	return fmt.Sprintf("the kernel's out-of-memory killer ended %d of this host's processes while it ran (oom_kill in /proc/vmstat)", after-before)
}
