package chaos

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// lesserKernel is the first argument of a process that takes features of the kernel away from a command; it is this binary.
const lesserKernel = "lesser-kernel"

// lack is one feature of the kernel: a system call, or one of its flags or options.
type lack struct {
	nr          uintptr
	arg         int    // the argument that tells this feature from others of the call; -1: the whole call
	mask, value uint32 // it is this feature when argument & mask == value; the low half of an argument
	errno       syscall.Errno
}

func whole(nr uintptr) lack { return lack{nr: nr, arg: -1, errno: unix.ENOSYS} }
func option(nr uintptr, arg int, v uint32) lack {
	return lack{nr, arg, 0xffffffff, v, unix.EINVAL}
}
func bit(nr uintptr, arg int, v uint32) lack { return lack{nr, arg, v, v, unix.EINVAL} }
func sockopt(v uint32) lack                  { return lack{unix.SYS_GETSOCKOPT, 2, 0xffffffff, v, unix.ENOPROTOOPT} }

// lacks are the features that can be taken away, by name.
var lacks = map[string]lack{
	"clone3":                       whole(unix.SYS_CLONE3),
	"clone:CLONE_PIDFD":            bit(unix.SYS_CLONE, 0, unix.CLONE_PIDFD),
	"close_range":                  whole(unix.SYS_CLOSE_RANGE),
	"epoll_pwait2":                 whole(unix.SYS_EPOLL_PWAIT2),
	"faccessat2":                   whole(unix.SYS_FACCESSAT2),
	"getrandom":                    whole(unix.SYS_GETRANDOM),
	"getsockopt:SO_PEERGROUPS":     sockopt(unix.SO_PEERGROUPS),
	"getsockopt:SO_PEERPIDFD":      sockopt(unix.SO_PEERPIDFD),
	"inotify_init1":                whole(unix.SYS_INOTIFY_INIT1),
	"io_uring_setup":               whole(unix.SYS_IO_URING_SETUP),
	"madvise":                      whole(unix.SYS_MADVISE),
	"membarrier":                   whole(unix.SYS_MEMBARRIER),
	"memfd_create":                 whole(unix.SYS_MEMFD_CREATE),
	"openat2":                      whole(unix.SYS_OPENAT2),
	"pidfd_getfd":                  whole(unix.SYS_PIDFD_GETFD),
	"pidfd_open":                   whole(unix.SYS_PIDFD_OPEN),
	"pidfd_send_signal":            whole(unix.SYS_PIDFD_SEND_SIGNAL),
	"pidfd_send_signal:group":      bit(unix.SYS_PIDFD_SEND_SIGNAL, 3, 4), // PIDFD_SIGNAL_PROCESS_GROUP
	"prctl:PR_SET_CHILD_SUBREAPER": option(unix.SYS_PRCTL, 0, unix.PR_SET_CHILD_SUBREAPER),
	"prctl:PR_SET_NAME":            option(unix.SYS_PRCTL, 0, unix.PR_SET_NAME),
	"prctl:PR_SET_NO_NEW_PRIVS":    option(unix.SYS_PRCTL, 0, unix.PR_SET_NO_NEW_PRIVS),
	"prctl:PR_SET_PDEATHSIG":       option(unix.SYS_PRCTL, 0, unix.PR_SET_PDEATHSIG),
	"process_vm_readv":             whole(unix.SYS_PROCESS_VM_READV),
	"ptrace":                       whole(unix.SYS_PTRACE),
	"rseq":                         whole(unix.SYS_RSEQ),
	"sched_getaffinity":            whole(unix.SYS_SCHED_GETAFFINITY),
	"statx":                        whole(unix.SYS_STATX),
	"waitid:P_PIDFD":               option(unix.SYS_WAITID, 0, unix.P_PIDFD),
}

// Lesser is the words to put before a command that shall live without these features of the kernel; binary is pitboss. A feature
// is one of the names above, with "=EPERM" for a sandbox that refuses what it does not know instead of the kernel's own answer; or
// "file:" and the end of a path, for files that are not there.
func Lesser(binary string, features ...string) []string {
	return []string{binary, lesserKernel, strings.Join(features, ","), "--"}
}

// RunLesserKernel is the whole life of a process that was started by such words; for any other it returns at once. args are those
// of the program with its name.
func RunLesserKernel(args []string) {
	if len(args) < 5 || args[1] != lesserKernel || args[3] != "--" {
		return
	}
	err := runLesser(strings.Split(args[2], ","), args[4:])
	fmt.Fprintf(os.Stderr, "pitboss: cannot start %q on a lesser kernel: %v\n", args[4], err)
	os.Exit(70)
}

// runLesser returns only if it fails. The filter is this thread's alone, and execve makes it the process's.
func runLesser(features, command []string) error {
	runtime.LockOSThread()
	var refused []lack
	var ends []string
	for _, name := range features {
		if end, ok := strings.CutPrefix(name, "file:"); ok {
			ends = append(ends, end)
			continue
		}
		r, err := lackOf(name)
		if err != nil {
			return err
		}
		refused = append(refused, r)
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return err
	}
	if len(ends) > 0 {
		return superviseOpens(path, refused, ends, command)
	}
	if _, err := install(filter(refused, nil), 0); err != nil {
		return err
	}
	return syscall.Exec(path, command, os.Environ())
}

// lackOf reads one feature as Lesser takes it.
func lackOf(name string) (lack, error) {
	feature, text, other := strings.Cut(name, "=")
	l, known := lacks[feature]
	switch {
	case !known:
		return l, fmt.Errorf("no feature %q; there are %s", feature, strings.Join(slices.Sorted(maps.Keys(lacks)), ", "))
	case text == "EPERM":
		l.errno = unix.EPERM
	case other:
		return l, fmt.Errorf("%q: only =EPERM", name)
	}
	return l, nil
}

// Offsets in struct seccomp_data (seccomp(2)); arguments are of 8 bytes, and the low half comes first on both of our processors.
const (
	offsetNR   = 0
	offsetArch = 4
	offsetArgs = 16
)

// filter is the program that refuses these and hands those system calls to whoever listens.
func filter(refused []lack, told []uintptr) []unix.SockFilter {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	equal := func(k uint32, otherwise uint8) unix.SockFilter { // else skip so many
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: otherwise, K: k}
	}
	ret := func(action uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
	}
	arch := uint32(unix.AUDIT_ARCH_X86_64)
	if runtime.GOARCH == "arm64" {
		arch = unix.AUDIT_ARCH_AARCH64
	}
	program := []unix.SockFilter{load(offsetArch), {Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, K: arch}, ret(unix.SECCOMP_RET_ALLOW)}
	for _, r := range refused {
		answer := ret(unix.SECCOMP_RET_ERRNO | uint32(r.errno))
		program = append(program, load(offsetNR))
		if r.arg < 0 {
			program = append(program, equal(uint32(r.nr), 1), answer)
			continue
		}
		program = append(program, equal(uint32(r.nr), 4), load(uint32(offsetArgs+8*r.arg)),
			unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: r.mask}, equal(r.value, 1), answer)
	}
	for _, nr := range told {
		program = append(program, load(offsetNR), equal(uint32(nr), 1), ret(unix.SECCOMP_RET_USER_NOTIF))
	}
	return append(program, ret(unix.SECCOMP_RET_ALLOW))
}

// install binds the calling thread, and what it executes and starts from now on, to the program. With
// SECCOMP_FILTER_FLAG_NEW_LISTENER the descriptor of the listener comes back.
func install(program []unix.SockFilter, flags uintptr) (int, error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, fmt.Errorf("cannot set no_new_privs: %w", err)
	}
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: unsafe.SliceData(program)}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return -1, fmt.Errorf("cannot install the filter: %w", errno)
	}
	return int(fd), nil
}
