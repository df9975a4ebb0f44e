package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pitboss-run/pitboss/heartbeat"
	"golang.org/x/sys/unix"
)

// sampleProcess reads what the kernel says about a process now. A part that cannot be read is left at its zero; without
// state and schedstat (hidepid, CONFIG_SCHEDSTATS off) the sample is not readable and proves nothing.
func sampleProcess(pid int, at time.Duration) heartbeat.Sample {
	s := heartbeat.Sample{At: at}
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	state, faults, ok := readStat(filepath.Join(dir, "stat"))
	s.State, s.MajorFlt = state, faults
	s.Threads = readThreads(dir)
	s.Readable = ok && len(s.Threads) > 0
	s.ReadBytes = readField(filepath.Join(dir, "io"), "read_bytes:")
	s.Traced = readField(filepath.Join(dir, "status"), "TracerPid:") != 0
	s.Frozen, s.Throttled = cgroupState(dir)
	return s
}

// readStat takes the state (field 3) and the major faults (field 12) from /proc/PID/stat (proc(5)); the command name
// before them may hold spaces and parentheses.
func readStat(name string) (state byte, faults uint64, ok bool) {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, 0, false
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 10 {
		return 0, 0, false
	}
	faults, _ = strconv.ParseUint(string(fields[9]), 10, 64)
	return fields[0][0], faults, true
}

// readThreads takes cpu and run delay of each thread from its schedstat, in nanoseconds.
func readThreads(dir string) []heartbeat.Thread {
	tasks, err := os.ReadDir(filepath.Join(dir, "task"))
	if err != nil {
		return nil
	}
	var threads []heartbeat.Thread
	for _, task := range tasks {
		text, err := os.ReadFile(filepath.Join(dir, "task", task.Name(), "schedstat"))
		fields := strings.Fields(string(text))
		tid, badTID := strconv.Atoi(task.Name())
		if err != nil || badTID != nil || len(fields) < 2 {
			continue
		}
		cpu, _ := strconv.ParseInt(fields[0], 10, 64)
		delay, _ := strconv.ParseInt(fields[1], 10, 64)
		threads = append(threads, heartbeat.Thread{TID: tid, CPU: time.Duration(cpu), RunDelay: time.Duration(delay)})
	}
	return threads
}

// readField is the number after a label of a /proc file, 0 when there is none.
func readField(name, label string) uint64 {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, label); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(rest), 10, 64)
			return n
		}
	}
	return 0
}

// cgroups are the directories of a process's cgroup: in the one hierarchy of version 2, and in version 1's for the cpu
// controller; empty where it has none. A hybrid host mounts version 2 below "unified" (systemd's layout).
type cgroups struct{ unified, cpu string }

// parseCgroups reads /proc/PID/cgroup (cgroups(7)): "0::/path" is version 2, "4:cpu,cpuacct:/path" version 1.
func parseCgroups(text string) (c cgroups) {
	for line := range strings.Lines(text) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, path, ok := strings.Cut(rest, ":")
		switch {
		case !ok || path == "/":
		case controllers == "":
			c.unified = path
		case slices.Contains(strings.Split(controllers, ","), "cpu"):
			c.cpu = path
		}
	}
	return c
}

// cgroupState says whether the process's cgroup is frozen (cgroup.events, Linux 5.2), and how long its cpu limit has kept it
// from running: throttled_usec of version 2, throttled_time in ns of version 1 (both in cpu.stat).
func cgroupState(dir string) (frozen bool, throttled time.Duration) {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup"))
	if err != nil {
		return false, 0
	}
	c := parseCgroups(string(text))
	const root = "/sys/fs/cgroup"
	if c.unified != "" {
		for _, mount := range []string{root, root + "/unified"} {
			frozen = frozen || readField(filepath.Join(mount, c.unified, "cgroup.events"), "frozen ") == 1
			throttled = max(throttled, time.Duration(readField(filepath.Join(mount, c.unified, "cpu.stat"), "throttled_usec "))*time.Microsecond)
		}
	}
	if c.cpu != "" {
		throttled = max(throttled, time.Duration(readField(filepath.Join(root, "cpu", c.cpu, "cpu.stat"), "throttled_time ")))
	}
	return frozen, throttled
}

// sleptFor is how long the host has been suspended since boot: the boot-time clock counts it, the monotonic one does not.
func sleptFor() time.Duration {
	var boot, mono unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono) != nil {
		return 0
	}
	return time.Duration(boot.Nano() - mono.Nano())
}
