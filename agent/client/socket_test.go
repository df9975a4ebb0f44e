package client_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"github.com/pitboss-run/pitboss/agent/client"
	"golang.org/x/sys/unix"
)

// stranger is a user with no rights here; nothing of it needs to be in /etc/passwd.
const stranger = 54321

// asStranger runs act on a thread that is another user's; the thread ends with it.
func asStranger(t *testing.T, act func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("run this test as root: it becomes another user")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime ends a thread whose goroutine ends so
		// Of this thread only, unlike unix.Setresuid, which changes all of them.
		_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, stranger, stranger, stranger)
		if errno != 0 {
			done <- errno
			return
		}
		act()
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestTheSocketOfAUserWithoutARuntimeDirectory(t *testing.T) {
	temp, err := os.MkdirTemp("", "pb")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(temp)
	if err := os.Chmod(temp, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(temp, fmt.Sprintf("pitboss-%d", stranger))
	own := filepath.Join(dir, "agent.sock")
	getenv := func(name string) string { return map[string]string{"TMPDIR": temp}[name] }
	const system = "/run/pitboss/agent.sock"
	for _, c := range []struct {
		what, want string
		refused    bool
		prepare    func() error
	}{
		{"no directory", system, false, func() error { return nil }},
		{"of root", "", true, func() error { return os.Mkdir(dir, 0o755) }},
		{"own, without a socket", system, false, func() error { return os.Chown(dir, stranger, stranger) }},
		{"own, with a socket", own, false, func() error { return exec.Command("touch", own).Run() }},
		{"own, that all may write", "", true, func() error { return os.Chmod(dir, 0o777) }},
		{"a link to an own one", "", true, func() error {
			if err := os.Chmod(dir, 0o700); err != nil {
				return err
			}
			if err := os.Rename(dir, dir+".real"); err != nil {
				return err
			}
			return os.Symlink(dir+".real", dir)
		}},
	} {
		if err := c.prepare(); err != nil {
			t.Fatal(c.what, err)
		}
		asStranger(t, func() {
			got, err := client.Socket(getenv, "agent")
			if got != c.want || (err != nil) != c.refused {
				t.Errorf("%s: %q %v, want %q", c.what, got, err, c.want)
			}
			want := c.want
			if c.refused { // passed over, with what is in it
				want = system
			}
			if got := client.DefaultSocket(getenv); got != want {
				t.Errorf("%s: by default %q, want %q", c.what, got, want)
			}
		})
	}
	if err := client.OwnDir(filepath.Join(temp, "none")); err == nil {
		t.Error("a directory that is not there is ours")
	}
}

// TestADirectoryThatLetsNobodyThrough is a refusal with its reason and its cause, not an agent that is not there.
func TestADirectoryThatLetsNobodyThrough(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "shut")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	_, there := client.Dial(t.Context(), filepath.Join(dir, "agent.sock"))
	if !errors.Is(there, client.Unreachable) || errors.Is(there, os.ErrPermission) {
		t.Errorf("for root: %v", there)
	}
	asStranger(t, func() {
		_, err := client.Dial(t.Context(), filepath.Join(dir, "agent.sock"))
		var refusal *client.AccessError
		if !errors.Is(err, client.PermissionDenied) || !errors.Is(err, os.ErrPermission) || !errors.As(err, &refusal) {
			t.Errorf("%v", err)
			return
		}
		if refusal.Owner != "root" || refusal.Group != "" || refusal.User != strconv.Itoa(stranger) {
			t.Errorf("%+v", refusal)
		}
		if retry, _ := client.RetryableIfIdempotent(err); retry {
			t.Error("it is worth another try")
		}
	})
}
