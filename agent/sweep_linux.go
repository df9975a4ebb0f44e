package agent

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// sweepSlack is what keepers of an earlier run get beyond their grace, sweepLimit how long the killing may take.
	sweepSlack = 500 * time.Millisecond
	sweepLimit = 5 * time.Second
)

// SweepStatus is what was found of an earlier run before this one started anything.
type SweepStatus struct {
	RunID string `json:"run_id,omitempty"` // of the earlier run
	// Killed processes were left by it and are gone now; Left ones could not be killed.
	Killed int   `json:"killed"`
	Left   []int `json:"left,omitempty"`
	// Refused says why what it has left was not used, as for a file that somebody else could have written.
	Refused string `json:"refused,omitempty"`
	TookMS  int64  `json:"took_ms"`
}

// sweep ends what an earlier run in dir has left: its processes by pid and start time, in the same boot and pid namespace, and
// whatever carries its run id in the environment. Keepers that are still at work get the grace that they give. Signals go
// through pidfds only. The caller holds the lock of dir: the earlier agent and its watchdog are gone.
func sweep(dir string, now runHeader) (s SweepStatus) {
	began := time.Now()
	header, entries, _, err := readRunRecord(dir)
	s.RunID = header.RunID
	defer func() { s.TookMS = time.Since(began).Milliseconds() }()
	switch {
	case errors.Is(err, errNoRecord):
		return s
	case err != nil:
		s.Refused = fmt.Sprintf("%s: %v", filepath.Join(dir, runRecordFile), err)
		return s
	case header.BootID == "" || now.BootID == "":
		entries = nil // its numbers may be of another boot
	case header.BootID != now.BootID:
		return s // nothing of it has outlived the boot
	case header.PIDNS != now.PIDNS:
		entries = nil // its numbers are of another namespace
	}
	w := sweeper{runID: header.RunID, entries: entries, seen: map[int]uint64{}, ours: map[int]bool{}}
	for pid := os.Getpid(); pid > 0 && !w.ours[pid]; pid = parentOf(pid) {
		w.ours[pid] = true
	}
	w.waitForKeepers(time.Duration(header.GraceMS)*time.Millisecond + sweepSlack)
	s.Killed, s.Left = w.killAll()
	return s
}

// sweepAndRecord takes over the runtime directory from an earlier run and begins the record of this one.
func (a *Agent) sweepAndRecord() error {
	header, err := newRunHeader(a.runID, a.longestGrace())
	if err != nil {
		return err
	}
	dir := a.options.RuntimeDir
	a.swept = sweep(dir, header)
	a.record, err = startRunRecord(dir, header)
	return err
}

// reportSweep tells what was found, once there is somebody to tell.
func (a *Agent) reportSweep() {
	switch s := &a.swept; {
	case s.Refused != "":
		a.emit(agentSweepRefused, slog.String("cause", s.Refused))
	case s.Killed > 0 || len(s.Left) > 0:
		a.emit(agentSwept, slog.String("run_id", s.RunID), slog.Int("killed", s.Killed), slog.Int("survivors", len(s.Left)), slog.Int64("took_ms", s.TookMS))
	}
}

// sweeper finds and ends the processes of one earlier run.
type sweeper struct {
	runID   string
	entries []runEntry
	seen    map[int]uint64 // killed ones: pid to start time
	ours    map[int]bool   // this process and its ancestors, whatever their environment says
}

// sweepTarget is one process of the earlier run, by a handle that was checked after it had been opened.
type sweepTarget struct {
	pid   int
	start uint64
	what  string
	fd    int
}

// waitForKeepers returns when no keeper of the earlier run is left: they give their workers the grace and prove them gone.
func (w *sweeper) waitForKeepers(limit time.Duration) {
	deadline := time.Now().Add(limit)
	for {
		var keepers []unix.PollFd
		for _, t := range w.recorded() {
			if strings.HasPrefix(t.what, "keeper ") {
				keepers = append(keepers, unix.PollFd{Fd: int32(t.fd), Events: unix.POLLIN})
			} else {
				_ = unix.Close(t.fd)
			}
		}
		left := time.Until(deadline)
		if len(keepers) > 0 && left > 0 {
			_, _ = unix.Poll(keepers[:1], int(left/time.Millisecond)+1) // one after the other is as good as all at once
		}
		for _, k := range keepers {
			_ = unix.Close(int(k.Fd))
		}
		if len(keepers) == 0 || left <= 0 {
			return
		}
	}
}

// killAll kills until no process of the run is found any more.
func (w *sweeper) killAll() (killed int, left []int) {
	for deadline := time.Now().Add(sweepLimit); ; {
		targets := append(w.recorded(), w.marked()...)
		if len(targets) == 0 {
			return len(w.seen), nil
		}
		left = nil
		for _, t := range targets {
			w.seen[t.pid] = t.start
			if !slices.Contains(left, t.pid) { // recorded and marked
				left = append(left, t.pid)
			}
			_ = unix.PidfdSendSignal(t.fd, syscall.SIGKILL, nil, 0)
		}
		for _, t := range targets {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(t.fd), Events: unix.POLLIN}}, max(int(time.Until(deadline)/time.Millisecond), 0))
			_ = unix.Close(t.fd)
		}
		if time.Now().After(deadline) {
			return len(w.seen) - len(left), left
		}
	}
}

// recorded is who of the record still lives.
func (w *sweeper) recorded() (targets []sweepTarget) {
	for _, e := range w.entries {
		if w.ours[e.PID] {
			continue
		}
		if t, ok := openTarget(e.PID, e.What, func(start uint64) bool { return start == e.Start }); ok {
			targets = append(targets, t)
		}
	}
	return targets
}

// marked is who carries the run id in the environment it was started with, and is this user's.
func (w *sweeper) marked() (targets []sweepTarget) {
	dirs, _ := os.ReadDir("/proc")
	mark := []byte("PITBOSS_RUN_ID=" + w.runID + "\x00")
	for _, dir := range dirs {
		pid, err := strconv.Atoi(dir.Name())
		if err != nil || w.ours[pid] {
			continue
		}
		var st unix.Stat_t
		if unix.Stat(filepath.Join("/proc", dir.Name()), &st) != nil || int(st.Uid) != os.Geteuid() || !carries(pid, mark) {
			continue
		}
		if t, ok := openTarget(pid, "", func(uint64) bool { return carries(pid, mark) }); ok {
			targets = append(targets, t)
		}
	}
	return targets
}

// carries says whether a variable is in a process's first environment (proc(5): it is what execve was given).
func carries(pid int, mark []byte) bool {
	env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	return err == nil && bytes.Contains(append([]byte{0}, append(env, 0)...), append([]byte{0}, mark...))
}

// openTarget opens a handle first and then looks whether it is the process that is meant: a number that was reused in between
// shows another start or environment, and one that is reused later does not matter to the handle.
func openTarget(pid int, what string, meant func(start uint64) bool) (sweepTarget, bool) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return sweepTarget{}, false
	}
	start, known := startTime(pid)
	if known && meant(start) && unended(fd) {
		return sweepTarget{pid, start, what, fd}, true
	}
	_ = unix.Close(fd)
	return sweepTarget{}, false
}

// unended says whether a process has not ended. A process whose first thread has ended shows state Z while others run; its handle becomes
// readable with the last one. EPERM is a living process of another user's.
func unended(fd int) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return err == nil && n == 0
}
