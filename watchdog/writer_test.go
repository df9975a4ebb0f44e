package watchdog

import (
	"os"
	"strings"
	"testing"

	"github.com/pitboss-run/pitboss/ipc"
	"golang.org/x/sys/unix"
)

// TestAWriterNeverWaits: the descriptor blocks, as others have it; a full pipe costs the line and no time.
func TestAWriterNeverWaits(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	size, err := unix.FcntlInt(uintptr(p[1]), unix.F_SETPIPE_SZ, ipc.MaxLine)
	if err != nil {
		t.Fatal(err)
	}
	w := newWriter(p[1])
	long := strings.Repeat("x", 2*size)
	w.line(long) // cut to what fits as a whole, which fills the pipe
	w.line("dropped")
	buf := make([]byte, 3*size)
	n, err := unix.Read(p[0], buf)
	if want := ("pitboss-watchdog: " + long)[:ipc.MaxLine-1] + "\n"; err != nil || string(buf[:n]) != want {
		t.Fatalf("%d bytes: %v", n, err)
	}
	w.line("read again")
	if n, err = unix.Read(p[0], buf); err != nil || string(buf[:n]) != "pitboss-watchdog: read again\n" {
		t.Errorf("%q %v", buf[:n], err)
	}
}

func TestAWriterOfAClosedDescriptor(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(f.Fd())
	_ = f.Close()
	newWriter(fd).line("to nobody")
}

// TestARuntimeDirectoryThatStays is named, and the tree is gone all the same: a file system is mounted in it.
func TestARuntimeDirectoryThatStays(t *testing.T) {
	dir := t.TempDir()
	inside := dir + "/mounted"
	if err := os.Mkdir(inside, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", inside, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal("run this test as root: ", err)
	}
	defer func() { _ = unix.Unmount(inside, unix.MNT_DETACH) }()
	tr := startTree(t, beating(), options{flags: []string{"--runtime-dir", dir, "--remove-dir"}})
	tr.ready(1)
	tr.signal(unix.SIGTERM)
	tr.exit(0)
	tr.stderr.wait(t, "cannot remove "+quote(dir)+": ", 1)
}
