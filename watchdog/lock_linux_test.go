package watchdog

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestALockThatCannotBe says what failed, on which file, and leaves nothing open.
func TestALockThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), link); err != nil {
		t.Fatal(err)
	}
	before := descriptors(t, os.Getpid())
	for path, want := range map[string]string{
		filepath.Join(dir, "none", "lock"): "no such file or directory; is its directory there and writable?",
		link:                               "too many levels of symbolic links",
		"/dev/full":                        `cannot write lock "/dev/full": no space left on device`,
	} {
		fd, f := takeLock(path)
		if f == nil || f.code != exitInternal || !strings.Contains(f.Error(), want) || fd != -1 {
			t.Errorf("%q: %d %v", path, fd, f)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "elsewhere")); !os.IsNotExist(err) {
		t.Errorf("a link was followed: %v", err)
	}
	if after := descriptors(t, os.Getpid()); after != before {
		t.Errorf("%d descriptors, before %d", after, before)
	}
	// Control: the same call takes a lock that can be, once.
	path := filepath.Join(dir, "lock")
	fd, f := takeLock(path)
	if f != nil {
		t.Fatal(f)
	}
	defer unix.Close(fd)
	if again, f := takeLock(path); f == nil || f.code != exitLocked || !strings.Contains(f.Error(), "held by pid "+itoa(os.Getpid())+" ") {
		t.Errorf("taken twice: %d %v", again, f)
	}
}
