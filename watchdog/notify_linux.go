package watchdog

import (
	"strings"
	"time"

	"github.com/pitboss-run/pitboss/ipc"
	"golang.org/x/sys/unix"
)

// notifier speaks to the service manager (sd_notify(3)): as its main process, or through the outer process that is.
type notifier struct {
	fd    int
	addr  unix.Sockaddr // nil: fd is the packet socket to the outer process
	every time.Duration // WATCHDOG=1 this often, 0 for never
	next  instant
	stop  bool // STOPPING=1 was sent
}

// newNotifier returns nil when nobody listens. outer is the mark of an inner process, -1 in the only process.
func newNotifier(m manager, outer int, now instant) *notifier {
	if m.notify == "" {
		return nil
	}
	n := &notifier{fd: outer}
	if outer < 0 {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return nil
		}
		n.fd, n.addr = fd, &unix.SockaddrUnix{Name: m.notify} // a leading @ is an abstract address
	}
	// A third, so that one lost datagram or one slow turn does not cost the service.
	if n.every = time.Duration(m.watchdog) * time.Microsecond / 3; n.every > 0 {
		n.next = now
	}
	return n
}

// send never waits; a datagram that the manager has no room for is lost.
func (n *notifier) send(lines string) {
	if n == nil || lines == "" {
		return
	}
	if n.addr == nil {
		_ = ipc.SendPacket(n.fd, []byte(lines), nil)
		return
	}
	_ = unix.Sendto(n.fd, []byte(lines), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, n.addr)
}

// stopping says STOPPING=1, once.
func (n *notifier) stopping() {
	if n != nil && !n.stop {
		n.stop = true
		n.send("STOPPING=1")
	}
}

func (n *notifier) extend(by time.Duration) {
	n.send("EXTEND_TIMEOUT_USEC=" + itoa(by.Microseconds()))
}

// tick says WATCHDOG=1 when it is due: this loop turns. It speaks for the guardian, never for the agent, so that the manager
// does not kill the guardian of an agent that was stopped or starved.
func (n *notifier) tick(now instant) {
	if n != nil && n.every > 0 && now >= n.next {
		n.next = now + n.every
		n.send("WATCHDOG=1")
	}
}

// due is when tick wants to be called, 0 for never.
func (n *notifier) due() instant {
	if n == nil || n.every == 0 {
		return 0
	}
	return n.next
}

// agentLines is what of an agent's notification is passed on: the sign of life, the wish for time and the beginning of a stop are
// the watchdog's to say, each when its own loop knows it.
func agentLines(text string) string {
	var keep []string
	for _, line := range strings.Split(text, "\n") {
		name, _, _ := strings.Cut(line, "=")
		switch name {
		case "", "WATCHDOG", "EXTEND_TIMEOUT_USEC", "STOPPING":
			continue
		}
		keep = append(keep, line)
	}
	return strings.Join(keep, "\n")
}
