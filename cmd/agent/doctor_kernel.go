package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"github.com/pitboss-run/pitboss/agent"
	"golang.org/x/sys/unix"
)

// kernelProbe tries one feature. Without a required one nothing works; without another the lack has the named consequence.
type kernelProbe struct {
	name     string
	required bool
	since    string
	without  string
	try      func() error
}

// pidfdSignalGroup is PIDFD_SIGNAL_PROCESS_GROUP of linux/pidfd.h.
const pidfdSignalGroup = 4

func kernelProbes() []kernelProbe {
	return []kernelProbe{
		{"pidfd_open", true, "5.3", "", func() error { return withPidfd(func(int) error { return nil }) }},
		{"waitid(P_PIDFD)", true, "5.4", "", func() error {
			// We are no child of ourselves: ECHILD says that the kind of id is known, EINVAL that it is not.
			return withPidfd(func(fd int) error {
				if err := unix.Waitid(unix.P_PIDFD, fd, nil, unix.WEXITED|unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) {
					return errors.Join(err, errors.New("it does not know the kind of id"))
				}
				return nil
			})
		}},
		{"pidfd_send_signal", true, "5.1", "", func() error { return withPidfd(func(fd int) error { return unix.PidfdSendSignal(fd, 0, nil, 0) }) }},
		{"child subreaper", true, "3.4", "", func() error {
			var on int32
			return unix.Prctl(unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&on)), 0, 0, 0)
		}},
		{"memfd_create", true, "3.17", "", func() error {
			fd, err := unix.MemfdCreate("pitboss-doctor", unix.MFD_CLOEXEC)
			if err == nil {
				_ = unix.Close(fd)
			}
			return err
		}},
		{"close_range", false, "5.9", "descriptors are closed one by one at a start", func() error { return unix.CloseRange(1<<30, 1<<30, 0) }},
		{"SO_PEERPIDFD", false, "6.5", "callers are known by pid and user only", func() error {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer func() { _ = unix.Close(pair[0]); _ = unix.Close(pair[1]) }()
			fd, err := unix.GetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_PEERPIDFD)
			if err == nil {
				_ = unix.Close(fd)
			}
			return err
		}},
		{"group signals by pidfd", false, "6.9", "groups are signalled by the id of an unreaped leader", func() error {
			return withPidfd(func(fd int) error {
				// ESRCH is the answer of a kernel that knows the flag when we lead no group; EINVAL of one that does not.
				if err := unix.PidfdSendSignal(fd, 0, nil, pidfdSignalGroup); !errors.Is(err, unix.ESRCH) {
					return err
				}
				return nil
			})
		}},
		{"cgroup.kill", false, "5.14 with cgroup v2", "kill tier cgroup is out of reach; tree does without", func() error {
			files, _ := filepath.Glob("/sys/fs/cgroup/*/cgroup.kill")
			_, own := os.Stat(filepath.Join("/sys/fs/cgroup", ownCgroup(), "cgroup.kill"))
			if len(files) == 0 && own != nil {
				return own
			}
			return nil
		}},
	}
}

// ownCgroup is the path of this process in the unified hierarchy.
func ownCgroup() string {
	text, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSpace(path)
		}
	}
	return ""
}

func withPidfd(try func(fd int) error) error {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return try(fd)
}

// checkKernel tries every feature: a line for what is there, one for each that is not.
func checkKernel(probes []kernelProbe) (findings []finding) {
	var there []string
	for _, p := range probes {
		err := p.try()
		switch {
		case err == nil:
			there = append(there, p.name)
		case p.required:
			findings = append(findings, bad("kernel", "run Linux 5.4 or later, or let the sandbox (seccomp) pass this call", "no %s (Linux %s): %v", p.name, p.since, err))
		default:
			findings = append(findings, warn("kernel", "none needed; Linux "+p.since+" brings it", "no %s: %v; %s", p.name, err, p.without))
		}
	}
	if len(there) > 0 {
		findings = append([]finding{ok("kernel", "%s", strings.Join(there, ", "))}, findings...)
	}
	return findings
}

// checkTier says which kill tier an agent would have here, and why.
func checkTier(cfg agent.Config, watchdog finding, kernel []finding) finding {
	for _, k := range kernel {
		if k.Grade == gradeFail {
			return bad("tier", "see kernel", "none: %s", k.Detail)
		}
	}
	switch {
	case cfg.Watchdog.Mode == "off":
		return warn("tier", "set watchdog.mode: auto", "group: watchdog.mode is off; a SIGKILL of the agent leaves clean-up to the keepers alone")
	case watchdog.Grade == gradeFail:
		return bad("tier", "see watchdog", "none: the agent does not start without its watchdog unless watchdog.mode is off")
	}
	return ok("tier", "tree: watchdog above the agent, a keeper above each worker; cgroup too where a service manager delegates one")
}
