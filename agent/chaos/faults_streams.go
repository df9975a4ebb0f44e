package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

func needsUnshare(h *Host) string {
	if !h.Root {
		return "needs root: it mounts a file system"
	}
	for _, tool := range []string{"unshare", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "needs " + tool + " of util-linux"
		}
	}
	return ""
}

// smallRuntimeDir mounts a file system of 64 KiB on the runtime directory, which only the agent's own mount namespace shows.
func smallRuntimeDir(r *Round, o *Options) {
	dir := r.File("agent")
	r.Must(os.Mkdir(dir, 0o700))
	o.Before = append([]string{"unshare", "--mount", "/bin/sh", "-c", `mount -t tmpfs -o size=64k,mode=0700 none "$0" && exec "$@"`, dir}, o.Before...)
}

// fillRuntimeDir fills it to the last byte: the page that the record of the run has already is taken from it, because what fits in
// there would still be written.
func fillRuntimeDir(r *victims) {
	dir := fmt.Sprintf("/proc/%d/root%s", r.agent.Watchdog.PID, r.File("agent"))
	record, err := os.OpenFile(filepath.Join(dir, "run.jsonl"), os.O_RDWR, 0)
	r.Must(err)
	defer func() { _ = record.Close() }()
	r.Must(unix.Fallocate(int(record.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096))
	fill, err := os.Create(filepath.Join(dir, "fill"))
	r.Must(err)
	defer func() { _ = fill.Close() }()
	for block := make([]byte, 4096); err == nil; {
		_, err = fill.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		r.Fatalf("cannot fill the runtime directory: %v", err)
	}
}

// stderrIs gives watchdog and agent this standard error.
func stderrIs(open func(*Round) *os.File) func(*Round, *Options) {
	return func(r *Round, o *Options) {
		f := open(r)
		r.Cleanup(func() { _ = f.Close() })
		o.Change = func(c *exec.Cmd) { c.Stdout, c.Stderr = f, f }
	}
}

func devFull(r *Round) *os.File {
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	r.Must(err)
	return f
}

func fullPipe(r *Round) *os.File {
	read, write, err := os.Pipe()
	r.Must(err)
	r.Cleanup(func() { _ = read.Close() })
	fd := int(write.Fd()) // blocking from here on, as a shell's pipe is
	r.Must(unix.SetNonblock(fd, true))
	for {
		if _, err := unix.Write(fd, make([]byte, 512)); err != nil {
			break
		}
	}
	r.Must(unix.SetNonblock(fd, false))
	return write
}

func closedPipe(r *Round) *os.File {
	read, write, err := os.Pipe()
	r.Must(err)
	r.Must(read.Close())
	return write
}

func hungUpTerminal(r *Round) *os.File {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	r.Must(err)
	fd := int(master.Fd())
	r.Must(unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	r.Must(err)
	terminal, err := os.OpenFile("/dev/pts/"+itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	r.Must(err)
	r.Must(master.Close())
	return terminal
}

func inheritHarm(r *Round, o *Options) {
	o.Before = []string{r.host.Python, "-c", harm, r.File("gone")}
}

// harm is what a careless parent leaves its children with.
const harm = `
import os, resource, signal, sys
for fd in range(1000):
    os.set_inheritable(os.open("/dev/null", os.O_RDONLY), True)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
resource.setrlimit(resource.RLIMIT_STACK, (256 << 10, resource.getrlimit(resource.RLIMIT_STACK)[1]))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
os.mkdir(sys.argv[1])
os.chdir(sys.argv[1])
os.rmdir(sys.argv[1])
os.umask(0o777)
for fd in range(3):
    os.close(fd)
os.execv(sys.argv[2], sys.argv[2:])
`
