package chaos

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// lesserListener names the descriptor over which the listener comes back to the supervisor.
const lesserListener = "PITBOSS_CHAOS_LISTENER"

// pathCalls are the system calls that ask for a file by its path, with the argument that points to it.
var pathCalls = map[uintptr]int{unix.SYS_OPENAT: 1, unix.SYS_OPENAT2: 1, unix.SYS_STATX: 1, unix.SYS_FACCESSAT: 1, unix.SYS_FACCESSAT2: 1}

// superviseOpens starts the command below itself and answers for the kernel whenever a process there asks for a file by path: ENOENT
// when the path ends in one of ends, else the kernel goes on as if nobody had asked. It ends with the last of them. In the child it
// hands the listener up and becomes the command.
func superviseOpens(path string, refused []lack, ends, command []string) error {
	if os.Getenv(lesserListener) != "" {
		return becomeListened(path, refused, command)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	pid, err := syscall.ForkExec(self, os.Args, &syscall.ProcAttr{Env: append(os.Environ(), lesserListener+"=3"),
		Files: []uintptr{0, 1, 2, uintptr(pair[1])}})
	_ = unix.Close(pair[1])
	if err != nil {
		return err
	}
	listener, err := receiveDescriptor(pair[0])
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM) // it is not for whoever answers, without whom they cannot end
	go func() {
		for range stop {
			_ = unix.Kill(pid, unix.SIGTERM) // not reaped before the end below
		}
	}()
	answerOpens(listener, ends)
	var status unix.WaitStatus
	for {
		if _, err := unix.Wait4(pid, &status, 0, nil); err != unix.EINTR {
			break
		}
	}
	if status.Signaled() {
		os.Exit(128 + int(status.Signal()))
	}
	os.Exit(status.ExitStatus())
	return nil
}

// becomeListened installs the filter, hands its listener up and executes the command.
func becomeListened(path string, refused []lack, command []string) error {
	const up = 3
	var told []uintptr
	for nr := range pathCalls {
		told = append(told, nr)
	}
	told = append(told, oldPathCalls...)
	unix.CloseOnExec(up)
	listener, err := install(filter(refused, told), unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
	if err != nil {
		return err
	}
	if err := unix.Sendmsg(up, []byte{0}, unix.UnixRights(listener), nil, 0); err != nil {
		return err
	}
	_ = unix.Close(listener)
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, lesserListener+"=") {
			env = append(env, kv)
		}
	}
	return syscall.Exec(path, command, env)
}

func receiveDescriptor(fd int) (int, error) {
	defer unix.Close(fd)
	var data [1]byte
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(fd, data[:], oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return -1, fmt.Errorf("the command ended before it was listened to")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return -1, err
	}
	return fds[0], nil
}

// seccompNotif and seccompAnswer are struct seccomp_notif and seccomp_notif_resp of linux/seccomp.h.
type seccompNotif struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type seccompAnswer struct {
	id           uint64
	value        int64
	errno, flags int32
}

// answerOpens returns when nobody is left who could ask.
func answerOpens(listener int, ends []string) {
	for {
		set := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(set, -1); err != nil {
			continue // EINTR
		}
		if set[0].Revents&unix.POLLIN == 0 {
			return // POLLHUP
		}
		var asked seccompNotif
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&asked))); errno != 0 {
			continue // ENOENT: who asked was killed
		}
		answer := seccompAnswer{id: asked.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		path, err := pathOf(int(asked.pid), uintptr(asked.args[pathCalls[uintptr(asked.nr)]]))
		if err == unix.EPERM { // Yama: every file would be there, and nobody would notice
			fmt.Fprintln(os.Stderr, "pitboss: cannot read which file a process asks for: kernel.yama.ptrace_scope must be 0 or 1")
			os.Exit(70)
		}
		for _, end := range ends {
			if strings.HasSuffix(path, end) {
				answer.flags, answer.errno = 0, -int32(unix.ENOENT)
			}
		}
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&answer)))
	}
}

// pathOf reads the text that another process points to. An error but EPERM is the asking process's own: a bad pointer, or its end.
func pathOf(pid int, address uintptr) (string, error) {
	var text []byte
	page := uintptr(os.Getpagesize())
	for len(text) < unix.PathMax {
		piece := make([]byte, page-address%page)
		local := []unix.Iovec{{Base: unsafe.SliceData(piece), Len: uint64(len(piece))}}
		n, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: address, Len: len(piece)}}, 0)
		runtime.KeepAlive(piece)
		if err != nil {
			return "", err
		}
		if end := bytes.IndexByte(piece[:n], 0); end >= 0 {
			return string(append(text, piece[:end]...)), nil
		}
		text, address = append(text, piece[:n]...), address+uintptr(n)
	}
	return "", unix.ENAMETOOLONG
}
