package watchdog

import (
	"strconv"
	"strings"
)

// Names of environment variables: those of service managers (sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3)) and ours.
const (
	envNotify     = "NOTIFY_SOCKET"
	envGuard      = "PITBOSS_GUARD_FD"
	envLock       = "PITBOSS_LOCK_FD"
	envListenFDs  = "PITBOSS_LISTEN_FDS"
	envListenName = "PITBOSS_LISTEN_FDNAMES"
	envInner      = "PITBOSS_INNER_FD"
)

// listenStart is SD_LISTEN_FDS_START: listeners are inherited from this descriptor on.
const listenStart = 3

// manager is what a service manager told this process through its environment.
type manager struct {
	notify   string // address of the notification socket, "" for none
	watchdog uint64 // WATCHDOG_USEC, 0 when it is not meant for us
	listen   int    // inherited listeners, at descriptors 3 and up
	names    string // their names, as in LISTEN_FDNAMES
	cgroup   delegation
}

// readManager takes what is addressed to pid. LISTEN_* must name it; WATCHDOG_PID may be absent.
func readManager(env []string, pid int) manager {
	get := func(name string) string {
		for _, kv := range env {
			if v, ok := strings.CutPrefix(kv, name+"="); ok {
				return v
			}
		}
		return ""
	}
	m := manager{notify: get(envNotify)}
	mine := strconv.Itoa(pid)
	if p := get("WATCHDOG_PID"); p == "" || p == mine {
		m.watchdog, _ = strconv.ParseUint(get("WATCHDOG_USEC"), 10, 63)
	}
	if get("LISTEN_PID") == mine {
		if n, err := strconv.Atoi(get("LISTEN_FDS")); err == nil && n > 0 && n <= 1024 {
			m.listen, m.names = n, get("LISTEN_FDNAMES")
		}
	}
	return m
}

// agentEnv is env without anything that is meant for a service's main process or came from an enclosing watchdog, plus set.
func agentEnv(env []string, set ...string) []string {
	var out []string
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case name == envNotify, strings.HasPrefix(name, "LISTEN_"), strings.HasPrefix(name, "WATCHDOG_"):
		case name == envGuard, name == envLock, name == envListenFDs, name == envListenName, name == envInner,
			name == envCgroup, name == envCgroupDir, name == envCgroupRefused:
		default:
			out = append(out, kv)
		}
	}
	return append(out, set...)
}
