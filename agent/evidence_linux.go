package agent

import (
	"bytes"
	"os"
	"path/filepath"
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
	s.Frozen = frozen(dir)
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

// frozen says whether the process's cgroup v2 is frozen (cgroup.events, Linux 5.2), where one is mounted.
func frozen(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok || path == "/" {
			continue
		}
		for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
			if readField(filepath.Join(mount, path, "cgroup.events"), "frozen ") == 1 {
				return true
			}
		}
	}
	return false
}

// sleptFor is how long the host has been suspended since boot: the boot-time clock counts it, the monotonic one does not.
func sleptFor() time.Duration {
	var boot, mono unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono) != nil {
		return 0
	}
	return time.Duration(boot.Nano() - mono.Nano())
}
