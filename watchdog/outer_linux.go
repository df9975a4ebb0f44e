package watchdog

import (
	"errors"
	"os"
	"strconv"
	"syscall"

	"github.com/pitboss-run/pitboss/ipc"
	"golang.org/x/sys/unix"
)

// outer is the started process when it has children of its own (a script's side-car) or is PID 1, and adopts strangers: "kill
// until there is no child left" would kill those. It starts the real watchdog as its child, forwards signals and
// notifications, reaps everything, kills nothing, and takes over the exit status.
type outer struct {
	inner   *process
	mark    int // packet socket to the inner process: proves the parent, carries its notifications; -1 once closed
	signals *signalPipe
	notify  *notifier
	kids    children
	parent  int // pidfd of --die-with-parent, -1 for none
	out     *writer
}

// innerMark believes that an outer process started this one only if the inherited socket's maker is the parent.
func innerMark(text string) (int, *failure) {
	fd, err := strconv.Atoi(text)
	var cred ipc.Cred
	if err == nil {
		cred, err = ipc.PeerCred(fd)
	}
	if err != nil || int(cred.PID) != unix.Getppid() {
		return -1, &failure{exitUsage, "cannot use --inner: it is for a watchdog that was started by a watchdog"}
	}
	unix.CloseOnExec(fd)
	return fd, nil
}

func runOuter(cfg *config, m manager, signals *signalPipe, parent int, out *writer) (int, *failure) {
	mine, theirs, err := ipc.PacketPair()
	if err != nil {
		return 0, &failure{exitInternal, err.Error()}
	}
	files := []int{0, 1, 2}
	for i := range m.listen {
		files = append(files, listenStart+i)
	}
	env := append(append(os.Environ(), m.cgroup.env()...), envInner+"="+itoa(len(files)))
	files = append(files, theirs)
	self, err := os.Executable()
	if err != nil {
		return 0, &failure{exitInternal, "cannot find the own binary: " + err.Error()}
	}
	inner, f := start(append([]string{self}, cfg.innerArgs()...), env, files)
	if f != nil {
		return 0, f
	}
	_ = unix.Close(theirs)
	m.watchdog = 0 // the inner loop speaks
	o := &outer{inner: inner, mark: mine, signals: signals, notify: newNotifier(m, -1, 0), parent: parent, out: out}
	return o.run(), nil
}

func (o *outer) run() int {
	inner := int32(o.inner.fd)
	o.reap() // who died before this program could hear of it
	for {
		set := [...]unix.PollFd{
			{Fd: int32(o.signals.read), Events: unix.POLLIN},
			{Fd: int32(o.mark), Events: unix.POLLIN},
			{Fd: inner, Events: unix.POLLIN},
			{Fd: int32(o.parent), Events: unix.POLLIN},
		}
		if _, err := unix.Poll(set[:], -1); err != nil {
			continue
		}
		if set[3].Revents != 0 {
			_ = unix.Close(o.parent)
			o.parent = -1
			o.inner.signal(int(unix.SIGTERM))
		}
		if set[0].Revents != 0 {
			o.forward()
		}
		o.relay()
		o.reap()
		if o.inner.reaped {
			if o.inner.status.Signaled() {
				return 128 + int(o.inner.status.Signal())
			}
			return o.inner.status.ExitStatus()
		}
		if set[2].Revents != 0 {
			inner = -1 // a tracer keeps its status from us; SIGCHLD comes when it lets go
		}
	}
}

// forward passes every signal on as it is: what it means is decided by the inner process.
func (o *outer) forward() {
	var buf [64]byte
	for _, b := range o.signals.drain(buf[:]) {
		if n := int(b); n != int(syscall.SIGCHLD) && n != int(syscall.SIGPIPE) {
			o.inner.signal(n)
		}
	}
}

// relay sends the inner process's notifications as the main process, which NotifyAccess=main asks for.
func (o *outer) relay() {
	var buf [ipc.MaxGuardSize]byte
	for o.mark >= 0 {
		n, _, err := ipc.RecvPacket(o.mark, buf[:], 0)
		switch {
		case err == nil:
			o.notify.send(string(buf[:n]))
		case errors.Is(err, ipc.ErrWouldBlock):
			return
		default:
			_ = unix.Close(o.mark)
			o.mark = -1
		}
	}
}

// reap collects the inner process and every stranger that was adopted.
func (o *outer) reap() {
	for {
		pid, status, _ := o.kids.reap()
		if pid == 0 {
			return
		}
		if int(pid) == o.inner.pid {
			o.inner.reaped, o.inner.status = true, status
		}
	}
}
