package agent

import (
	"fmt"
	"os"
	"strconv"

	"github.com/pitboss-run/pitboss/ipc"
	"golang.org/x/sys/unix"
)

// GuardEnv names the inherited descriptor of the link to the watchdog.
const GuardEnv = "PITBOSS_GUARD_FD"

// InheritedGuard reports whether this process is the supervised child of a watchdog, and the descriptor of the link.
// The environment variable alone proves nothing (a nested `pitboss run` inside a tool inherits it): the descriptor must
// be a connected SOCK_SEQPACKET socket whose peer is our parent.
func InheritedGuard() (fd int, supervised bool, err error) {
	text := os.Getenv(GuardEnv)
	if text == "" {
		return -1, false, nil
	}
	fd, err = strconv.Atoi(text)
	if err != nil || fd < 3 {
		return -1, false, fmt.Errorf("cannot use %s=%q: it must be a descriptor number", GuardEnv, text)
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_SEQPACKET {
		return -1, false, nil
	}
	cred, err := ipc.PeerCred(fd)
	if err != nil || int(cred.PID) != os.Getppid() {
		return -1, false, nil
	}
	unix.CloseOnExec(fd)
	return fd, true, nil
}
