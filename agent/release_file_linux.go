package agent

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// tryFile says whether a worker could lock this file, or bind this unix socket. What is not there is free.
func tryFile(name string) error {
	if name[0] == '@' {
		return tryAbstract(name)
	}
	// O_PATH opens nothing: no device is touched and no reader of a pipe is woken by a look.
	fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot open %q: %w", name, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("cannot stat %q: %w", name, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		return trySocket(name)
	case unix.S_IFREG, unix.S_IFDIR:
		return tryLock(name, fd)
	}
	return fmt.Errorf("%q is neither a lock file nor a socket", name)
}

// trySocket connects a datagram socket, which no listener notices: with a live socket of another type the kernel answers
// EPROTOTYPE, with a live one of the same nothing, and without one ECONNREFUSED (unix(7)). A file that a dead server has left is no
// socket any more, and it is for the worker to unlink it.
func trySocket(name string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	switch err := unix.Connect(fd, &unix.SockaddrUnix{Name: name}); {
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOENT):
		return nil
	case err == nil, errors.Is(err, unix.EPROTOTYPE), errors.Is(err, unix.EPERM), errors.Is(err, unix.EAGAIN):
		return errHeld
	default:
		return fmt.Errorf("cannot try %q: %w", name, err)
	}
}

// tryAbstract binds the name as a worker would; each type of socket has its own name space (net/unix/af_unix.c).
func tryAbstract(name string) error {
	for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET} {
		fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: name})
		_ = unix.Close(fd)
		if errors.Is(err, unix.EADDRINUSE) {
			return errHeld
		}
		if err != nil {
			return fmt.Errorf("cannot bind %q: %w", name, err)
		}
	}
	return nil
}

// tryLock asks the kernel itself. /proc/locks would not do: it leaves out a flock whose taker is dead while a child has inherited
// it, unless it is read in the first pid namespace (fs/locks.c, locks_translate_pid), and that child is whom we look for.
func tryLock(name string, path int) error {
	fd, err := reopen(path)
	if err != nil {
		return fmt.Errorf("cannot open %q: %w", name, err)
	}
	defer unix.Close(fd)
	// Both fcntl kinds, by process and by open file; nothing is taken (fcntl(2)).
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	switch err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lock); {
	case err != nil:
		return fmt.Errorf("cannot ask for locks of %q: %w", name, err)
	case lock.Type != unix.F_UNLCK:
		return errHeld
	}
	// There is no question for flock(2) but to take it; it is given back at once.
	switch err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		return errHeld
	case err != nil:
		return fmt.Errorf("cannot lock %q: %w", name, err)
	}
	return nil
}

// reopen opens what an O_PATH descriptor names, for writing if that is allowed: an NFS flock is an fcntl lock and wants it.
func reopen(path int) (int, error) {
	link := "/proc/self/fd/" + strconv.Itoa(path)
	fd, err := unix.Open(link, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		fd, err = unix.Open(link, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	}
	return fd, err
}

// fileHolder names the processes that have locked the file, or bound the socket.
func fileHolder(name string) string {
	if inodes := unixInodes(name); len(inodes) > 0 {
		return holders(func(link, _ string) bool { return inodes[link] })
	}
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		return ""
	}
	return holders(func(link, info string) bool { return link == real && holdsLock(info) })
}

// holdsLock says whether an open file holds a lock, by its /proc/PID/fdinfo/N (proc(5)).
func holdsLock(info string) bool {
	text, err := os.ReadFile(info)
	return err == nil && strings.Contains(string(text), "\nlock:")
}

// unixInodes are the sockets that are bound to a name, as links of descriptors.
func unixInodes(name string) map[string]bool {
	file, err := os.Open("/proc/self/net/unix")
	if err != nil {
		return nil
	}
	defer file.Close()
	inodes := map[string]bool{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if f := strings.Fields(lines.Text()); len(f) >= 8 && f[7] == name {
			inodes["socket:["+f[6]+"]"] = true
		}
	}
	return inodes
}

// maxHolders is how many are named.
const maxHolders = 3

// holders names the processes with a descriptor that match takes: the link's target, and the path of its fdinfo. Those of other users
// stay hidden from a plain user.
func holders(match func(link, info string) bool) string {
	var names []string
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		fds, err := os.ReadDir(dir + "/fd")
		if err != nil {
			continue // it has ended, or is none of ours
		}
		for _, fd := range fds {
			link, err := os.Readlink(dir + "/fd/" + fd.Name())
			if err != nil || !match(link, dir+"/fdinfo/"+fd.Name()) {
				continue
			}
			if len(names) == maxHolders {
				return strings.Join(names, ", ") + " and others"
			}
			names = append(names, processName(filepath.Base(dir)))
			break
		}
	}
	return strings.Join(names, ", ")
}

// processName is "pid 77 (nginx)". The rest of the command line may hold secrets, and whoever may read the status would see it.
func processName(pid string) string {
	comm, err := os.ReadFile("/proc/" + pid + "/comm")
	if err != nil {
		return "pid " + pid
	}
	return fmt.Sprintf("pid %s (%s)", pid, strings.TrimSpace(string(comm)))
}
