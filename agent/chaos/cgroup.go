package chaos

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// newCgroup makes a cgroup of v2 below our own, "" where we may not.
func newCgroup(token string) string {
	for _, dir := range cgroupPlaces(token) {
		if os.Mkdir(dir, 0o700) != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "cgroup.events")); err != nil { // v1
			_ = os.Remove(dir)
			continue
		}
		return dir
	}
	return ""
}

// cgroupPlaces are where a round's cgroup may be.
func cgroupPlaces(token string) (dirs []string) {
	text, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(text)) {
		own, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		for _, mount := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
			dirs = append(dirs, filepath.Join(mount, own, placePrefix+token))
		}
	}
	return dirs
}

// removeCgroup waits until the file says that nobody is left (cgroups(7)): a zombie of another parent holds it for a moment.
func (r *Round) removeCgroup() {
	dir := r.tree.Cgroup
	events, err := os.Open(filepath.Join(dir, "cgroup.events"))
	if err != nil {
		r.Errorf("cannot watch the round's cgroup: %v", err)
		return
	}
	defer func() { _ = events.Close() }()
	for end := time.Now().Add(patience); removeBelow(dir) != nil; {
		if time.Now().After(end) {
			r.Errorf("cannot remove the round's cgroup %q: %v", dir, removeBelow(dir))
			return
		}
		text := make([]byte, 256)
		n, _ := events.ReadAt(text, 0) // by this descriptor: its poll tells of changes since its last read
		if !strings.Contains(string(text[:n]), "populated 0") {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(events.Fd()), Events: unix.POLLPRI}}, int(time.Until(end)/time.Millisecond))
		}
	}
}

// removeBelow removes a cgroup and those below it.
func removeBelow(dir string) error {
	below, _ := os.ReadDir(dir)
	for _, d := range below {
		if d.IsDir() {
			_ = removeBelow(filepath.Join(dir, d.Name()))
		}
	}
	return os.Remove(dir)
}
