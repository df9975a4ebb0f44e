package watchdog

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// scan finds children by the parent that every process's stat file names, for kernels without proc/PID/task/TID/children. Its
// descriptors are open before anything goes wrong; spare is given up for the moment that one file is read.
type scan struct {
	self        int32
	proc, spare int
}

func scanForChildren() (*children, *failure) {
	s := &scan{self: int32(unix.Getpid())}
	var err error
	if s.proc, err = unix.Open("/proc", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
		s.spare, err = unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, &failure{exitInternal, "cannot list children: " + err.Error()}
	}
	if readAt(s.proc, "self/stat") == "" {
		return nil, &failure{exitInternal, "cannot list children: proc is not mounted at /proc"}
	}
	return &children{scan: s}, nil
}

// children are those that /proc shows, zombies too. One that starts or is adopted meanwhile may be missed: ECHILD is the proof.
func (s *scan) children() []int32 {
	var pids []int32
	_, _ = unix.Seek(s.proc, 0, unix.SEEK_SET)
	buf := make([]byte, 8192)
	for {
		n, err := unix.ReadDirent(s.proc, buf)
		if err != nil || n <= 0 {
			return pids
		}
		_, _, names := unix.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			if pid, err := strconv.ParseInt(name, 10, 32); err == nil && s.parent(name) == s.self {
				pids = append(pids, int32(pid))
			}
		}
	}
}

// parent is the fourth field of a process's stat file, 0 when it cannot be read.
func (s *scan) parent(name string) int32 {
	_ = unix.Close(s.spare)
	stat := readAt(s.proc, name+"/stat")
	s.spare, _ = unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 2 {
		return 0
	}
	ppid, _ := strconv.ParseInt(f[1], 10, 32)
	return int32(ppid)
}

// readAt opens a file for a moment; "" when it cannot be read.
func readAt(dir int, name string) string {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	return readFD(fd)
}
