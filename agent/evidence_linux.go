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
)

const cgroupMount = "/sys/fs/cgroup"

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
	cgroups, _ := os.ReadFile(filepath.Join(dir, "cgroup"))
	s.Frozen = frozen(string(cgroups), cgroupMount)
	s.ThrottledFor, s.Throttles = throttled(string(cgroups), cgroupMount)
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

// readThreads takes cpu, run delay and turns of each thread from its schedstat, and its state.
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
		if err != nil || badTID != nil || len(fields) < 3 {
			continue
		}
		state, _, _ := readStat(filepath.Join(dir, "task", task.Name(), "stat"))
		cpu, _ := strconv.ParseInt(fields[0], 10, 64)
		delay, _ := strconv.ParseInt(fields[1], 10, 64)
		turns, _ := strconv.ParseUint(fields[2], 10, 64)
		threads = append(threads, heartbeat.Thread{TID: tid, State: state, CPU: time.Duration(cpu), RunDelay: time.Duration(delay), Turns: turns})
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

// frozen says whether a freezer holds the process, by the lines of its /proc/PID/cgroup: cgroup.events of version 2 (Linux 5.2), and
// freezer.state of version 1, where a process that was asleep shows as waiting for storage (D). Both speak of the cgroups above too.
func frozen(cgroups, mount string) bool {
	for line := range strings.Lines(cgroups) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(fields) != 3:
		case fields[0] == "0":
			for _, dir := range []string{mount, mount + "/unified"} {
				if readField(filepath.Join(dir, fields[2], "cgroup.events"), "frozen ") == 1 {
					return true
				}
			}
		case slices.Contains(strings.Split(fields[1], ","), "freezer"):
			state, _ := os.ReadFile(filepath.Join(mount, "freezer", fields[2], "freezer.state"))
			if strings.HasPrefix(string(state), "FR") { // FREEZING: one of its processes cannot be frozen yet
				return true
			}
		}
	}
	return false
}

// throttled is how long a CPU quota has kept a process from running so far, and how many of its periods ended so, by the lines of its
// /proc/PID/cgroup: of cgroup v2 the quota's own cgroup is any from here to the root (cpu.stat, throttled_usec), of v1 likewise in the
// hierarchy of the cpu controller (throttled_time, in ns). Of each the largest counts: times are summed over the
// processors. 0 where nothing can be read.
func throttled(cgroups, mount string) (lasted time.Duration, periods uint64) {
	for line := range strings.Lines(cgroups) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		hierarchy, label, unit := "", "throttled_usec ", time.Microsecond
		if fields[0] != "0" {
			if !slices.Contains(strings.Split(fields[1], ","), "cpu") {
				continue
			}
			hierarchy, label, unit = "cpu", "throttled_time ", time.Nanosecond
		}
		// Up to the top: in a container that is the container's own cgroup, and has its quota.
		for path := filepath.Clean("/" + fields[2]); ; path = filepath.Dir(path) {
			stat := filepath.Join(mount, hierarchy, path, "cpu.stat")
			lasted = max(lasted, time.Duration(readField(stat, label))*unit)
			periods = max(periods, readField(stat, "nr_throttled "))
			if path == "/" {
				break
			}
		}
	}
	return lasted, periods
}
