package watchdog

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// urgency is by how many steps of niceness the watchdog, and by inheritance the agent, its launchers and keepers, come before what
// they watch (sched(7): ten steps are nine times the share of a processor). On a full host a verdict, a substitute or a kill is a few
// milliseconds of work, which would take seconds at an equal share.
const urgency = 10

// envNice hands on the niceness that the watchdog was started with: workers get it back. It is set only while its own is raised.
const envNice = "PITBOSS_NICE"

const highest = -20 // setpriority(2)

// raise puts this thread before the others, where CAP_SYS_NICE or RLIMIT_NICE allows it. Every thread that it makes and the program
// that it executes have that from it. ok is false when nothing has changed.
func raise() (was int, ok bool) {
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return 0, false
	}
	was = 20 - raw // the system call adds 20 and turns the sign, so that no result is an error
	if raised := max(was-urgency, highest); raised != was {
		ok = unix.Setpriority(unix.PRIO_PROCESS, 0, raised) == nil
	}
	return was, ok
}

func lower(to int) { _ = unix.Setpriority(unix.PRIO_PROCESS, 0, to) }

// autogroup is where a session has a niceness of its own (sched(7), "The autogroup feature"): with kernel.sched_autogroup_enabled niceness
// counts only among the threads of one session, and sessions share the processors.
const (
	autogroup      = "/proc/self/autogroup"
	autogroupTries = 8
	autogroupPause = 101 // ms
)

// raiseSession does the same for the session, if it is ours: that of a service, not that of a terminal or of the program that started us.
// Every worker has another one.
func raiseSession() {
	if sid, err := unix.Getsid(0); err != nil || sid != unix.Getpid() {
		return
	}
	text, err := os.ReadFile(autogroup)
	if err != nil {
		return // a kernel without
	}
	_, after, _ := strings.Cut(string(text), " nice ")
	was, err := strconv.Atoi(strings.TrimSpace(after))
	if err != nil {
		return
	}
	fd, err := unix.Open(autogroup, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	// Without CAP_SYS_ADMIN one write in 100 ms is taken from all of the host (proc_sched_autogroup_set_nice, Linux 2.6.38): instances that
	// are started together wait for each other.
	for range autogroupTries {
		if _, err := unix.Write(fd, []byte(itoa(max(was-urgency, highest)))); err != unix.EAGAIN {
			return
		}
		_, _ = unix.Poll(nil, autogroupPause)
	}
}
