package agent

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// childrenFile is the kernel's list of the children of one thread of this process (proc(5), Linux 3.5). Kernels without
// CONFIG_PROC_CHILDREN do not have it, and neither have some sandboxes.
func childrenFile() string { return fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()) }

// childLister is how to list the children of a process here, zombies too: by the kernel's lists, or without them by a look at
// every process that /proc shows.
func childLister() func(pid int) []int {
	if _, err := os.Stat(childrenFile()); err != nil {
		return scanChildren
	}
	return listChildren
}

// scanChildren looks at the parent of every process. A child that starts or is adopted meanwhile may be missed, as in the kernel's own
// lists: only ECHILD proves that there is none.
func scanChildren(parent int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil && parentOf(pid) == parent {
			pids = append(pids, pid)
		}
	}
	return pids
}

// unlisted says that there is a child although nobody is expected: every list of children can miss one, ECHILD cannot (waitid(2)).
func (c *children) unlisted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.known) == 0 && waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL) != unix.ECHILD
}
