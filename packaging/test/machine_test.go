//go:build booted

package booted

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	service = "pitboss.service"
	socket  = "pitboss.socket"
	apiPath = "/run/pitboss/agent.sock"
)

// try runs a command and returns everything that it printed, and its exit code.
func try(t *testing.T, name string, args ...string) (string, int) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return string(out), 0
	case errors.As(err, &exit):
		return string(out), exit.ExitCode()
	}
	t.Fatalf("cannot run %s: %v", name, err)
	return "", 0
}

// run is try of a command that must succeed; the output comes without its last line end.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, code := try(t, name, args...)
	if code != 0 {
		t.Fatalf("%s %s: exit %d\n%s", name, strings.Join(args, " "), code, out)
	}
	return strings.TrimSuffix(out, "\n")
}

// as runs a command as another user.
func as(t *testing.T, user string, args ...string) (string, int) {
	t.Helper()
	return try(t, "runuser", append([]string{"-u", user, "--"}, args...)...)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await waits for a state that nothing announces.
func await(t *testing.T, what string, reached func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !reached(); <-tick.C {
		if time.Now().After(deadline) {
			out, _ := try(t, "journalctl", "-n", "25", "-o", "short-monotonic", "--no-pager")
			t.Fatalf("not within %v: %s\n%s", patience, what, out)
		}
	}
}

// property is what the manager says of a unit.
func property(t *testing.T, unit, name string) string {
	t.Helper()
	return run(t, "systemctl", "show", "--value", "-p", name, unit)
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}

func mainPID(t *testing.T) int { t.Helper(); return number(t, property(t, service, "MainPID")) }

func restarts(t *testing.T) int { t.Helper(); return number(t, property(t, service, "NRestarts")) }

// unitIs fails unless the unit is in that state (is-active).
func unitIs(t *testing.T, unit, want string) {
	t.Helper()
	if got, _ := try(t, "systemctl", "is-active", unit); strings.TrimSpace(got) != want {
		status, _ := try(t, "systemctl", "status", "--no-pager", "-n", "20", unit)
		t.Errorf("%s is %swant %s\n%s", unit, got, want, status)
	}
}

// enabled fails unless is-enabled says so.
func enabled(t *testing.T, unit, want string) {
	t.Helper()
	if got, _ := try(t, "systemctl", "is-enabled", unit); strings.TrimSpace(got) != want {
		t.Errorf("%s is %s, want %s", unit, strings.TrimSpace(got), want)
	}
}

// mark is a moment; what the journal has after it is asked for with journal. Not a cursor: journalctl passes over the first record that
// matches when the one at the cursor does not.
type mark string

func markJournal(t *testing.T) mark {
	t.Helper()
	run(t, "journalctl", "--sync")
	now := time.Now().UnixMicro()
	return mark(fmt.Sprintf("--since=@%d.%06d", now/1e6, now%1e6))
}

// journal is what the unit has said since the mark, its processes and the manager about it.
func journal(t *testing.T, since mark, unit string) string {
	t.Helper()
	run(t, "journalctl", "--sync")
	out, _ := try(t, "journalctl", "--no-pager", string(since), "-o", "cat", "-u", unit)
	return out
}

func awaitJournal(t *testing.T, since mark, text string) {
	t.Helper()
	await(t, "in the journal: "+text, func() bool { return strings.Contains(journal(t, since, service), text) })
}

func write(t *testing.T, name, text string) {
	t.Helper()
	must(t, os.WriteFile(name, []byte(text), 0o644))
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	must(t, err)
	return string(text)
}
