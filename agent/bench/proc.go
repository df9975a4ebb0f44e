package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// switches counts the context switches of all threads, voluntary or not.
func switches(pid int) (n int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, name := range files {
		n += field(name, "voluntary_ctxt_switches:") + field(name, "nonvoluntary_ctxt_switches:")
	}
	return n
}

// memory is what is the process's alone and what is resident, in KiB.
func memory(pid int) (anonymous, rss int) {
	name := fmt.Sprintf("/proc/%d/smaps_rollup", pid)
	return field(name, "Anonymous:"), field(name, "Rss:")
}

func field(name, label string) int {
	text, _ := os.ReadFile(name)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, label); ok {
			n, _ := strconv.Atoi(strings.Fields(rest)[0])
			return n
		}
	}
	return 0
}

// private is the memory that would be free without the process, in KiB.
func private(pid int) int {
	name := fmt.Sprintf("/proc/%d/smaps_rollup", pid)
	return field(name, "Private_Clean:") + field(name, "Private_Dirty:")
}

// processorTime is what the threads of a process have used, in ns by the scheduler's own count: the ticks of /proc/PID/stat would
// round each of a thousand idle processes down to nothing.
func processorTime(pid int) (sum time.Duration) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, name := range files {
		text, _ := os.ReadFile(name)
		if f := strings.Fields(string(text)); len(f) == 3 {
			n, _ := strconv.ParseInt(f[0], 10, 64)
			sum += time.Duration(n)
		}
	}
	return sum
}
