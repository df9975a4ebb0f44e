package watchdog

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTheCommandIsFoundAsExecvpFindsIt(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"plain/tool": 0o644, "bin/tool": 0o755, "plain/only": 0o644} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "dirs", "tool"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(dir, "bin"))
	for _, c := range []struct {
		name, path, want string
		err              error
	}{
		{"./tool", "", "./tool", nil},
		{"tool", dir + "/dirs:" + dir + "/plain:" + dir + "/bin", dir + "/bin/tool", nil},
		{"tool", "", "./tool", nil}, // an empty name is the working directory
		{"only", dir + "/bin:" + dir + "/plain", "", unix.EACCES},
		{"none", dir + "/bin", "", unix.ENOENT},
	} {
		got, err := lookPath(c.name, []string{"PATH=/none", "HOME=/", "PATH=" + c.path})
		if got != c.want || err != c.err {
			t.Errorf("%q in %q: %q %v, want %q %v", c.name, c.path, got, err, c.want, c.err)
		}
	}
	if got, err := lookPath("sh", nil); err != nil || filepath.Base(got) != "sh" {
		t.Errorf("without PATH: %q %v", got, err)
	}
}

func TestCauseOfAnEnd(t *testing.T) {
	for want, p := range map[string]process{
		"unknown":        {dead: true},
		"exit 3":         {reaped: true, status: 3 << 8},
		"signal SIGKILL": {reaped: true, status: unix.WaitStatus(unix.SIGKILL)},
		"signal 40":      {reaped: true, status: 40}, // of real time
	} {
		if got := p.cause(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestDescriptorsAreMarkedOneByOne is what stands in for close_range's flag before Linux 5.11.
func TestDescriptorsAreMarkedOneByOne(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	low, high := min(p[0], p[1]), max(p[0], p[1])
	closeEachOnExec(high)
	for fd, want := range map[int]int{low: 0, high: unix.FD_CLOEXEC} {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); flags != want || err != nil {
			t.Errorf("descriptor %d of %v has flags %d: %v", fd, p, flags, err)
		}
	}
}
