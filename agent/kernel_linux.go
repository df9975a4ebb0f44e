package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"unsafe"

	"github.com/pitboss-run/pitboss/ipc"
	"golang.org/x/sys/unix"
)

// KernelFeature is something that pitboss asks of the kernel and that an old one, a sandbox (seccomp) or a container may not have.
type KernelFeature struct {
	Name, Since string // Since is the first Linux that has it
	// Without is what is done instead; empty for a feature without which nothing works. Fix says how to get it then.
	Without, Fix string
	Lowers       bool         // something is promised less without it: an agent says so in its status
	Try          func() error // nil when it is there; changes nothing
}

// Required says that nothing works without it.
func (f KernelFeature) Required() bool { return f.Without == "" }

const fixKernel = "run Linux 5.4 or later, or let the sandbox (seccomp) pass this call"

// KernelFeatures are all of them, those that are required first.
func KernelFeatures() []KernelFeature {
	return []KernelFeature{
		{Name: "proc file system", Since: "1.0", Fix: "mount it at /proc", Try: statFile("/proc/self/stat")},
		{Name: "pidfd_open", Since: "5.3", Fix: fixKernel, Try: func() error { return withPidfd(func(int) error { return nil }) }},
		{Name: "waitid(P_PIDFD)", Since: "5.4", Fix: fixKernel, Try: tryWaitPidfd},
		{Name: "pidfd_send_signal", Since: "5.1", Fix: fixKernel, Try: func() error {
			return withPidfd(func(fd int) error { return unix.PidfdSendSignal(fd, 0, nil, 0) })
		}},
		{Name: "prctl(PR_SET_CHILD_SUBREAPER)", Since: "3.4", Fix: fixKernel, Try: func() error {
			return setAgain(unix.PR_GET_CHILD_SUBREAPER, unix.PR_SET_CHILD_SUBREAPER)
		}},
		{Name: "prctl(PR_SET_PDEATHSIG)", Since: "2.1.57", Fix: fixKernel, Try: func() error {
			return setAgain(unix.PR_GET_PDEATHSIG, unix.PR_SET_PDEATHSIG)
		}},
		{Name: "memfd_create", Since: "3.17", Without: "crash stacks go to an unlinked file of the runtime directory", Try: func() error {
			fd, err := memfd("pitboss-probe")
			if err == nil {
				_ = unix.Close(fd)
			}
			return err
		}},
		{Name: "lists of children in /proc", Since: "3.5 with CONFIG_PROC_CHILDREN", Without: "children are found by a look at every process", Try: statFile(childrenFile())},
		{Name: "schedstat in /proc", Since: "2.6.23 with CONFIG_SCHED_INFO", Lowers: true, Without: "a worker that is silent is held, never found lost or blocked", Try: statFile("/proc/self/schedstat")},
		{Name: "boot id", Since: "2.2", Lowers: true, Without: "an earlier run's processes are found by their environment only, and get no grace", Try: statFile(bootIDFile)},
		{Name: "close_range", Since: "5.9", Without: "descriptors are closed one by one at a start", Try: func() error { return unix.CloseRange(1<<30, 1<<30, 0) }},
		{Name: "clone3", Since: "5.3", Without: "clone does it; but a sandbox that says EPERM instead of ENOSYS lets no Python with glibc 2.34 or later start a thread, and no worker",
			Try: tryClone3},
		{Name: "SO_PEERGROUPS", Since: "4.13", Lowers: true, Without: "callers are known by user and primary group only", Try: func() error {
			return withSocket(func(fd int) error {
				_, err := ipc.PeerGroups(fd)
				return err
			})
		}},
		{Name: "SO_PEERPIDFD", Since: "6.5", Without: "callers are known by pid and user only", Try: tryPeerPidfd},
		{Name: "group signals by pidfd", Since: "6.9", Without: "groups are signalled by the id of an unreaped leader", Try: tryGroupSignal},
		{Name: "cgroup.kill", Since: "5.14 with cgroup v2", Without: "kill tier cgroup is out of reach; tree does without", Try: tryCgroupKill},
	}
}

// CheckKernel names what is required and not there.
func CheckKernel() error {
	for _, f := range KernelFeatures() {
		if !f.Required() {
			continue
		}
		if err := f.Try(); err != nil {
			return fmt.Errorf("cannot run on this kernel: no %s (Linux %s): %w; %s", f.Name, f.Since, err, f.Fix)
		}
	}
	return nil
}

// kernelLacks names what is not there and lowers what this agent promises.
func kernelLacks() (lacks []string) {
	for _, f := range KernelFeatures() {
		if f.Lowers && f.Try() != nil {
			lacks = append(lacks, "no "+f.Name+": "+f.Without)
		}
	}
	return lacks
}

func statFile(name string) func() error {
	return func() error {
		_, err := os.Stat(name)
		return err
	}
}

func withPidfd(try func(fd int) error) error {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return try(fd)
}

func tryWaitPidfd() error {
	// We are no child of ourselves: ECHILD says that the kind of id is known, EINVAL that it is not.
	return withPidfd(func(fd int) error {
		err := waitid(unix.P_PIDFD, fd, nil, unix.WEXITED|unix.WNOHANG)
		if err == unix.ECHILD {
			return nil
		}
		return fmt.Errorf("the kind of id is unknown: %w", err)
	})
}

// setAgain sets an attribute of this process or thread to what it is: a sandbox may let it be read and not be set.
func setAgain(get, set int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var now int32
	if err := unix.Prctl(get, uintptr(unsafe.Pointer(&now)), 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(set, uintptr(now), 0, 0, 0)
}

// tryClone3 asks for nothing, which every kernel refuses in its own way; only EPERM is a sandbox's, and tells the C library the wrong thing.
func tryClone3() error {
	if _, _, errno := unix.RawSyscall(unix.SYS_CLONE3, 0, 0, 0); errno == unix.ENOSYS || errno == unix.EPERM {
		return errno
	}
	return nil
}

func withSocket(try func(fd int) error) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(pair[0]); _ = unix.Close(pair[1]) }()
	return try(pair[0])
}

func tryPeerPidfd() error {
	return withSocket(func(fd int) error {
		peer, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
		if err == nil {
			_ = unix.Close(peer)
		}
		return err
	})
}

func tryGroupSignal() error {
	const pidfdSignalProcessGroup = 4 // linux/pidfd.h
	return withPidfd(func(fd int) error {
		// ESRCH is the answer of a kernel that knows the flag when we lead no group; EINVAL of one that does not.
		if err := unix.PidfdSendSignal(fd, 0, nil, pidfdSignalProcessGroup); err != unix.ESRCH {
			return err
		}
		return nil
	})
}

// tryCgroupKill looks at the cgroups that there are. The root has no such file (cgroups(7)): where it is the only one, as on a host without
// a service manager, one is made for the look.
func tryCgroupKill() error {
	own := ""
	text, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			own = strings.TrimSpace(path)
		}
	}
	for _, mount := range [...]string{cgroupMount, filepath.Join(cgroupMount, "unified")} {
		below, _ := filepath.Glob(filepath.Join(mount, "*"))
		for _, dir := range append(below, filepath.Join(mount, own)) {
			if _, err := os.Stat(filepath.Join(dir, "cgroup.kill")); err == nil {
				return nil
			}
		}
		if own == "/" && tryInNewCgroup(mount) {
			return nil
		}
	}
	return errors.New("no cgroup v2 with this file is mounted at " + cgroupMount)
}

// tryInNewCgroup says whether a cgroup made below the root of cgroup v2 has the file; who may not make one cannot tell.
func tryInNewCgroup(root string) bool {
	if _, err := os.Stat(filepath.Join(root, "cgroup.subtree_control")); err != nil {
		return false // version 1: a directory is a cgroup of its controller there
	}
	dir, err := os.MkdirTemp(root, "pitboss-probe-")
	if err != nil {
		return false
	}
	defer func() { _ = os.Remove(dir) }()
	_, err = os.Stat(filepath.Join(dir, "cgroup.kill"))
	return err == nil
}
