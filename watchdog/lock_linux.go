package watchdog

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// takeLock opens and locks the file and writes the own pid into it. The lock belongs to the open file description: the agent
// inherits it, and it is free only when both are gone. -1 when no lock is wanted.
func takeLock(path string) (int, *failure) {
	if path == "" {
		return -1, nil
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return -1, &failure{exitInternal, "cannot open lock " + quote(path) + ": " + err.Error() + "; is its directory there and writable?"}
	}
	err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		_ = unix.Ftruncate(fd, 0)
		_, err = unix.Pwrite(fd, []byte(itoa(unix.Getpid())+"\n"), 0)
		if err == nil {
			return fd, nil
		}
		_ = unix.Close(fd)
		return -1, &failure{exitInternal, "cannot write lock " + quote(path) + ": " + err.Error()}
	}
	defer unix.Close(fd)
	if err != unix.EWOULDBLOCK {
		return -1, &failure{exitInternal, "cannot lock " + quote(path) + ": " + err.Error()}
	}
	holder := "held by another pitboss"
	var buf [16]byte
	if n, _ := unix.Pread(fd, buf[:], 0); n > 0 {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n]))); err == nil {
			holder = "held by pid " + strconv.Itoa(pid) + " or the agent it left behind"
		}
	}
	return -1, &failure{exitLocked, "cannot lock " + quote(path) + ": " + holder + "; stop that one first, or use another --instance or --runtime-dir"}
}
