package main

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/ipc"
	"golang.org/x/sys/unix"
)

// checkRuntimeDir makes the directory of this user's agents, as a start would, and writes into it.
func checkRuntimeDir() finding {
	dir := runtimeBase()
	const fix = "set $XDG_RUNTIME_DIR to a directory of yours that nobody else can write"
	if err := makeDir(dir); err != nil {
		return bad("runtime dir", fix, "%v", err)
	}
	file, err := os.CreateTemp(dir, ".doctor-")
	if err != nil {
		return bad("runtime dir", fix, "cannot write: %v", err)
	}
	_, err = file.WriteString("x")
	if err = errors.Join(err, file.Close(), os.Remove(file.Name())); err != nil {
		return bad("runtime dir", fix, "cannot write: %v", err)
	}
	return ok("runtime dir", "%s", dir)
}

// checkSocket tries the socket that the other commands would use. That nobody listens is no fault.
func checkSocket(path string) finding {
	if len(path) > 107 {
		return bad("socket", "name a shorter one with --socket or $XDG_RUNTIME_DIR", "%s has %d bytes; the kernel allows 107", path, len(path))
	}
	if base := sharedBase(); filepath.Dir(path) == base {
		if err := checkOurs(base, ""); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return bad("socket", "remove it, or name another with --socket", "%v", err)
		}
	}
	if info, err := os.Stat(path); err == nil && info.Mode()&fs.ModeSocket == 0 {
		return bad("socket", "remove it, or name another with --socket", "%s is no socket", path)
	}
	conn, err := net.DialTimeout("unix", path, 2*time.Second)
	switch {
	case err == nil:
		_ = conn.Close()
		return ok("socket", "%s: an agent listens", path)
	case errors.Is(err, fs.ErrNotExist):
		return ok("socket", "%s: no agent there yet", path)
	case errors.Is(err, fs.ErrPermission):
		return bad("socket", "ask its owner for access, or name another with --socket", "%s: permission denied", path)
	case errors.Is(err, unix.ECONNREFUSED):
		return warn("socket", "none needed: the next agent replaces it", "%s: left over, nobody listens", path)
	}
	return bad("socket", "remove it, or name another with --socket", "%v", err)
}

func checkWatchdog(mode string, timeout time.Duration) finding {
	self, err := os.Executable()
	if err != nil {
		return bad("watchdog", "", "cannot find our own binary: %v", err)
	}
	path, err := watchdogPath(self)
	switch {
	case err != nil && mode == "off":
		return warn("watchdog", "install it beside pitboss, and set watchdog.mode: auto", "%v; watchdog.mode is off", err)
	case err != nil:
		return bad("watchdog", "install it there, or set $PITBOSS_WATCHDOG", "%v", err)
	}
	out, _, err := runBounded(timeout, "/", path, "--version")
	if err != nil {
		return bad("watchdog", "install the one that came with this pitboss", "%s --version %v", path, err)
	}
	if got := strings.TrimSpace(out); got != "pitboss-watchdog "+ipc.Version {
		return bad("watchdog", "install the one that came with this pitboss", "%s says %.80q; this is pitboss %s", path, got, ipc.Version)
	}
	return ok("watchdog", "%s, version %s", path, ipc.Version)
}

// hostFacts are what the kernel says of this host; tests put other facts in their place.
type hostFacts struct {
	monotonic, boottime func() (time.Duration, error)
	freeBytes           func() (uint64, error) // for us in the runtime directory
	nofile, nofileHard  uint64
	pidMax              int
	processes           uint64 // RLIMIT_NPROC, soft
	root                bool   // whom RLIMIT_NPROC does not bind
}

func thisHost() hostFacts {
	clock := func(id int32) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			var at unix.Timespec
			err := unix.ClockGettime(id, &at)
			return time.Duration(at.Nano()), err
		}
	}
	var files, processes unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &files) // cannot fail for a limit that exists
	_ = unix.Getrlimit(unix.RLIMIT_NPROC, &processes)
	text, _ := os.ReadFile("/proc/sys/kernel/pid_max")
	pidMax, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return hostFacts{monotonic: clock(unix.CLOCK_MONOTONIC), boottime: clock(unix.CLOCK_BOOTTIME), freeBytes: freeBytes,
		nofile: files.Cur, nofileHard: files.Max, pidMax: pidMax, processes: processes.Cur, root: os.Geteuid() == 0}
}

func freeBytes() (uint64, error) {
	for dir := runtimeBase(); ; dir = filepath.Dir(dir) { // the nearest that exists
		var s unix.Statfs_t
		err := unix.Statfs(dir, &s)
		if err == nil || !errors.Is(err, fs.ErrNotExist) || dir == "/" {
			return s.Bavail * uint64(s.Bsize), err
		}
	}
}

// What a host must have. A worker costs two processes and, in the agent, some descriptors (see the configuration's check).
const (
	leastBytes, fewBytes         = 1 << 20, 32 << 20
	leastFiles, fewFiles         = 64, 1024
	leastPids, fewPids           = 1024, 32768
	leastProcesses, fewProcesses = 32, 512
)

func checkHost(h hostFacts, cfg agent.Config) []finding {
	return []finding{checkClock(h), checkDisk(h), checkFiles(h), checkPids(h, cfg)}
}

// checkClock reads both clocks in turn: neither may go back, and the one that counts suspend is never behind the other.
func checkClock(h hostFacts) finding {
	const fix = "the kernel or the sandbox answers wrongly: run elsewhere, deadlines would be wrong"
	mono, err1 := h.monotonic()
	boot, err2 := h.boottime()
	later, err3 := h.monotonic()
	bootLater, err4 := h.boottime()
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return bad("clock", fix, "cannot read it: %v", err)
	}
	if later < mono || bootLater < boot {
		return bad("clock", fix, "it goes back: monotonic %s then %s, boottime %s then %s", mono, later, boot, bootLater)
	}
	if boot < mono || mono <= 0 {
		return bad("clock", fix, "boottime %s is behind monotonic %s", boot, mono)
	}
	return ok("clock", "up %s, of that suspended %s", boot.Round(time.Second), (boot - mono).Round(time.Second))
}

func checkDisk(h hostFacts) finding {
	free, err := h.freeBytes()
	switch {
	case err != nil:
		return bad("disk", "set $XDG_RUNTIME_DIR to another place", "cannot see what is free: %v", err)
	case free < leastBytes:
		return bad("disk", "make room there, or set $XDG_RUNTIME_DIR to another place", "%d KiB free for %s: not enough for the Python package", free>>10, runtimeBase())
	case free < fewBytes:
		return warn("disk", "make room there", "%d MiB free for %s", free>>20, runtimeBase())
	}
	return ok("disk", "%d MiB free for %s", free>>20, runtimeBase())
}

func checkFiles(h hostFacts) finding {
	const fix = "raise it: ulimit -Hn, LimitNOFILE="
	switch {
	case h.nofileHard < leastFiles:
		return bad("files", fix, "the hard limit of open files is %d, below %d", h.nofileHard, leastFiles)
	case h.nofileHard < fewFiles:
		return warn("files", fix, "the hard limit of open files is %d: few workers", h.nofileHard)
	}
	return ok("files", "%d open files, %d at most", h.nofile, h.nofileHard)
}

func checkPids(h hostFacts, cfg agent.Config) finding {
	workers := 0
	for _, p := range cfg.Pools {
		workers += p.Workers
	}
	need := uint64(2*workers + len(cfg.Pools) + 2) // worker and keeper each, launchers, agent, watchdog
	limit, name, fix := uint64(max(h.pidMax, 0)), "kernel.pid_max", "raise it: sysctl kernel.pid_max=4194304"
	least, few := uint64(leastPids), uint64(fewPids)
	if !h.root && h.processes < limit {
		limit, name, fix, least, few = h.processes, "the limit of processes", "raise it: ulimit -u, LimitNPROC=", leastProcesses, fewProcesses
	}
	switch {
	case limit < least || limit < need:
		return bad("processes", fix, "%s is %d; %s need %d", name, limit, counted(workers, "worker"), max(need, least))
	case limit < few:
		return warn("processes", fix, "%s is %d", name, limit)
	}
	return ok("processes", "%s is %d", name, limit)
}
