package agent

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// socketDir is short: a socket's path has at most 107 bytes.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// leftover is a socket file that nobody listens on, as a killed agent leaves it.
func leftover(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
}

func TestListening(t *testing.T) {
	dir := socketDir(t)
	stale, file, link := filepath.Join(dir, "stale"), filepath.Join(dir, "file"), filepath.Join(dir, "link")
	leftover(t, stale)
	write(t, file, "mine", 0o600)
	if err := os.Symlink(stale, link); err != nil {
		t.Fatal(err)
	}
	l, err := listenUnix(stale, AccessConfig{})
	if err != nil {
		t.Fatal("a leftover is in the way: ", err)
	}
	defer l.Close()
	if info, err := os.Stat(stale); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	for path, want := range map[string]string{
		stale: "another agent answers there", // the one above
		file:  "a file that is no socket is in the way",
		link:  "a file that is no socket is in the way",
		filepath.Join(dir, strings.Repeat("x", maxSocketPath)): "107 are possible",
		filepath.Join(dir, "none", "s"):                        "cannot listen on ",
		filepath.Join(file, "s"):                               "cannot look at ",
	} {
		if l, err := listenUnix(path, AccessConfig{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v %v", path, l, err)
		}
	}
	if contents(t, file) != "mine" {
		t.Error("a file in the way was written")
	}
	if conn, err := net.Dial("unix", stale); err != nil {
		t.Errorf("the one that listens was disturbed: %v", err)
	} else {
		_ = conn.Close()
	}
}

// TestASocketThatCannotBeShared is not left behind, neither open nor at all.
func TestASocketThatCannotBeShared(t *testing.T) {
	path := filepath.Join(socketDir(t), "s")
	if l, err := listenUnix(path, AccessConfig{Clients: AccessList{Groups: []string{"no-such-group-here"}}}); err == nil || !strings.Contains(err.Error(), "cannot give the socket") {
		t.Errorf("%v %v", l, err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("it is there: %v", err)
	}
}

func TestInheritedListenersThatCannotBe(t *testing.T) {
	for _, text := range []string{"x", "-1", "65", "1.5"} {
		_, err := InheritedListeners(func(string) string { return text })
		if want := fmt.Sprintf("cannot use PITBOSS_LISTEN_FDS=%q: it must be a small number", text); err == nil || err.Error() != want {
			t.Errorf("%v", err)
		}
	}
	if l, err := InheritedListeners(func(string) string { return "" }); l != nil || err != nil {
		t.Errorf("%v %v", l, err)
	}
}
