package watchdog

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// killedBlind runs the kill path with a standard error that takes nothing.
func killedBlind(t *testing.T, o options) *tree {
	t.Helper()
	s := beating()
	s.Children = kinds()
	tr := startTree(t, s, o)
	tr.ready(kindsOfEscape)
	tr.signal(syscall.SIGTSTP) // a line for every one of these
	tr.signalAgent(syscall.SIGKILL)
	start := time.Now()
	tr.exit(70)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the kill path took %v", took)
	}
	if d := tr.certificate(); d.Killed != kindsOfEscape || d.Count != 0 {
		t.Errorf("certificate %+v", d)
	}
	return tr
}

func TestAFullStderrBlocksNothing(t *testing.T) {
	r, w := pipe(t)
	defer r.Close()
	defer w.Close()
	again, err := unix.Open("/proc/self/fd/"+itoa(int(w.Fd())), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(again)
	for page := make([]byte, 4096); err == nil; {
		_, err = unix.Write(again, page)
	}
	if err != unix.EAGAIN {
		t.Fatal(err)
	}
	killedBlind(t, options{stderr: w})
}

func TestABrokenStderrKillsNobody(t *testing.T) {
	r, w := pipe(t)
	defer w.Close()
	_ = r.Close()
	killedBlind(t, options{stderr: w})
}

func TestAClosedStderrIsNobodyElsesDescriptor(t *testing.T) {
	killedBlind(t, options{shell: `exec "$@" 2>&-`})
}

func TestAFullSocketAsStderrBlocksNothing(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	for page := make([]byte, 4096); err == nil; {
		err = unix.Sendto(pair[1], page, unix.MSG_DONTWAIT, nil)
	}
	if err != unix.EAGAIN {
		t.Fatal(err)
	}
	w := os.NewFile(uintptr(pair[1]), "stderr")
	defer w.Close()
	killedBlind(t, options{stderr: w})
}

// onStderr finds the certificate among the lines.
func (tr *tree) onStderr() deathRecord {
	tr.t.Helper()
	return parseCertificate(tr.t, []byte(tr.stderr.wait(tr.t, `{"schema":1`, 1)))
}

func TestACertificateSurvivesItsDirectory(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"removed": os.RemoveAll,
		"a file":  func(dir string) error { _ = os.RemoveAll(dir); return os.WriteFile(dir, nil, 0o600) },
		"in the way": func(dir string) error { // the name itself is a directory with something in it
			return os.MkdirAll(filepath.Join(dir, certificateFile, "x"), 0o700)
		},
	} {
		t.Run(name, func(t *testing.T) {
			tr := startTree(t, beating(), options{})
			tr.ready(1)
			if err := spoil(tr.dir); err != nil {
				t.Fatal(err)
			}
			tr.signalAgent(syscall.SIGKILL)
			tr.exit(70)
			if d := tr.onStderr(); d.Killed != 1 || d.Count != 0 {
				t.Errorf("certificate %+v", d)
			}
			tr.stderr.wait(t, "cannot write ", 1)
		})
	}
}

func TestTheRuntimeDirectoryIsRemovedAtTheEnd(t *testing.T) {
	for _, kill := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "run")
		outside := filepath.Join(t.TempDir(), "outside")
		for _, d := range []string{dir, outside} {
			if err := os.Mkdir(d, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(outside, dir+"/link"); err != nil {
			t.Fatal(err)
		}
		tr := startTree(t, beating(), options{flags: []string{"--runtime-dir", dir, "--remove-dir"}})
		tr.ready(1)
		if kill {
			tr.signalAgent(syscall.SIGKILL)
			tr.exit(70)
			tr.onStderr()
		} else {
			tr.signal(syscall.SIGTERM)
			tr.exit(0)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("killed %v: the directory is still there: %v", kill, err)
		}
		if _, err := os.Stat(outside); err != nil {
			t.Errorf("killed %v: a link was followed: %v", kill, err)
		}
	}
}

func TestACommandThatIsNoAgent(t *testing.T) {
	for _, c := range []struct {
		command []string
		code    int
		says    string
	}{
		{[]string{"sh", "-c", "exit 3"}, 3, ""},
		{[]string{"true"}, 0, ""},
		{[]string{"/nowhere/to/be/found"}, exitNotFound, "cannot start"},
		{[]string{"no-such-command-at-all"}, exitNotFound, "cannot start"},
		{[]string{"/etc/passwd"}, exitInternal, "cannot start"},
		{[]string{"sh", "-c", "kill -SEGV $$"}, exitInternal, `"cause":"signal SIGSEGV"`},
		{[]string{"sh", "-c", "sleep 600 & exit 4"}, 4, `"killed":1`},
	} {
		tr := startCommand(t, c.command, options{})
		tr.exit(c.code)
		if c.says != "" {
			tr.stderr.wait(t, c.says, 1)
		} else if text := strings.TrimSpace(tr.stderr.String()); text != "" {
			t.Errorf("%q: says %q", c.command, text)
		}
	}
}
