package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/creack/pty"
)

func TestLinesAreCutAtSpaces(t *testing.T) {
	for _, c := range []struct {
		width, indent int
		text          string
		want          string
	}{
		{0, 4, "as long as it may be", "as long as it may be"},
		{20, 4, "as long as it may be", "as long as it may be"},
		{19, 4, "as long as it may be", "as long as it may\n    be"},
		{10, 4, "as long as it may be", "as long as\n    it may\n    be"},
		{10, 4, "key more-than-ten", "key more-t\n    han-te\n    n"},
		{10, 2, "  text of a pool", "  text of\n  a pool"},
		{8, 10, "no room for it", "no room\nfor it"},
		{1, 0, "abc", "a\nb\nc"},
		{5, 2, "größe über alles", "größe\n  übe\n  r\n  all\n  es"},
	} {
		if got := (screen{width: c.width}).wrapped(c.indent, c.text); got != c.want {
			t.Errorf("%q in %d columns behind %d:\n%s\nwant\n%s", c.text, c.width, c.indent, got, c.want)
		}
	}
}

// TestATableLosesNothing in any width that it can have, and is no wider than the window.
func TestATableLosesNothing(t *testing.T) {
	rows := [][]string{{"WORKER", "PID", "LAST EXIT"}, {"default-0.12", "4711", ""}, {"a-pool-of-a-long-name-1.3", "4194304", "died by SIGKILL (heartbeat: blocked for 10.2s)"}}
	sorted := func(text string) string {
		runes := []rune(strings.Join(strings.Fields(text), ""))
		slices.Sort(runes)
		return string(runes)
	}
	whole := ""
	for _, row := range rows {
		whole += strings.Join(row, "")
	}
	for width := 2 + 3*leastCell + 2*columnGap; width <= 120; width++ {
		var b bytes.Buffer
		screen{&b, width}.table(2, rows)
		for line := range strings.Lines(b.String()) {
			if n := utf8.RuneCountInString(line) - 1; n > width {
				t.Errorf("%d columns in a window of %d: %q", n, width, line)
			}
		}
		if sorted(b.String()) != sorted(whole) {
			t.Errorf("in %d columns:\n%s", width, &b)
		}
	}
	var b bytes.Buffer
	screen{&b, 60}.table(2, rows)
	want := "" +
		"  WORKER                     PID      LAST EXIT\n" +
		"  default-0.12               4711\n" +
		"  a-pool-of-a-long-name-1.3  4194304  died by SIGKILL\n" +
		"                                      (heartbeat: blocked\n" +
		"                                      for 10.2s)\n"
	if b.String() != want {
		t.Errorf("in 60 columns:\n%swant\n%s", &b, want)
	}
}

// inWindow runs a command in a terminal of 80 columns and returns what it shows.
func (h *host) inWindow(args ...string) string {
	h.t.Helper()
	return onTerminal(h.t, h.command("pitboss", args...))
}

func onTerminal(t *testing.T, c *exec.Cmd) string {
	t.Helper()
	window, err := pty.StartWithSize(c, &pty.Winsize{Rows: 24, Cols: 80})
	must(t, err)
	defer window.Close()
	text, err := io.ReadAll(window) // ends with EIO when the command has ended
	if err == nil {
		t.Error("the terminal ended without its command")
	}
	if err := c.Wait(); err != nil {
		t.Errorf("%v: %v\n%s", c.Args, err, text)
	}
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

func tooWide(text string) (lines []string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, "\n"); utf8.RuneCountInString(line) > 80 {
			lines = append(lines, line)
		}
	}
	return lines
}

// longNames has what makes rows long: names, a reason, an interpreter's path.
const longNames = `
pools:
  - {name: recordings-of-voices, adapter: wide.py, workers: 1, timeouts: {kill: 300ms, call: 1s}}
  - {name: broken, adapter: bad.py, workers: 1}
`

const wideAdapter = `
import time
import pitboss

@pitboss.tool
def transcribe(recording: bytes, language: str = "en", temperature: float = 0.0, words: bool = False):
    """Turns the recording of a voice into text, word by word where that is asked for, and names its language."""
    time.sleep(600)
`

// TestNothingIsWiderThanTheWindow: in 80 columns every word that an operator needs is shown, and nothing is cut off.
func TestNothingIsWiderThanTheWindow(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("wide.py"), []byte(wideAdapter), 0o644))
	must(t, os.WriteFile(h.path("bad.py"), []byte("raise RuntimeError('the model of the year 2019 is not where it was, and nobody knows why')\n"), 0o644))
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(longNames), 0o644))
	h.start(h.command("pitboss", "agent", "--config", "pitboss.yaml"))
	h.await("up", func() bool {
		st, ok := h.status()
		return ok && st.Pools[0].State == "ready" && st.Pools[1].State == "failed"
	})
	h.pitboss("call", "transcribe", "recording=x", "--pool", "recordings-of-voices").want(t, 75)
	h.await("replaced", func() bool { st, _ := h.status(); return len(st.Pools) > 0 && st.Pools[0].Ready == 1 })
	st, _ := h.status()
	worker := st.Pools[0].Workers[0]
	running := h.start(h.command("pitboss", "call", "transcribe", "recording=x", "--pool", "recordings-of-voices", "--timeout", "600s"))
	h.await("running", func() bool { st, _ := h.status(); return len(st.Pools) > 0 && st.Pools[0].Busy == 1 })

	for _, c := range []struct {
		args string
		want string // each word, in any line
	}{
		{"status", "agent watchdog armed tier tree pool ready busy failed RuntimeError: nobody knows why " + worker.ID + " SIGKILL (deadline passed) " + strconv.Itoa(worker.PID)},
		{"tools", "recordings-of-voices/transcribe(recording: bytes language: = \"en\", temperature: false) language."},
		{"tools --schema", "transcribe(recording: \"contentEncoding\": \"binary\""},
		{"calls", "CALL LEFT running recordings-of-voices"},
		{"events", "worker.exited worker.ready pool.state worker=" + worker.ID + " to=failed"},
		{"explain 1", "recordings-of-voices/transcribe, CALL_TIMEOUT: possible: SIGKILL 1s"},
	} {
		whole := h.pitboss(strings.Fields(c.args)...)
		shown := h.inWindow(strings.Fields(c.args)...)
		if c.args == "explain 1" { // the stack below is code, and never cut
			shown, _, _ = strings.Cut(shown, "\n\n")
			whole.stdout, _, _ = strings.Cut(whole.stdout, "\n\n")
		}
		if lines := tooWide(shown); len(lines) > 0 {
			t.Errorf("%s is wider than its window:\n%s", c.args, strings.Join(lines, "\n"))
		}
		if len(tooWide(whole.stdout)) == 0 {
			t.Errorf("%s has no long line even in a pipe, so this shows nothing:\n%s", c.args, whole.stdout)
		}
		for _, word := range strings.Fields(c.want) {
			if !strings.Contains(shown, word) {
				t.Errorf("%s does not show %q:\n%s", c.args, word, shown)
			}
		}
	}
	_ = running.cmd.Process.Signal(os.Interrupt)
	if code := running.exit(); code != 130 {
		t.Errorf("the running call ended with %d: %s", code, running.log())
	}
}

// TestTheWindowIsMeasured is the instrument's control: a line of 100 columns is seen.
func TestTheWindowIsMeasured(t *testing.T) {
	if lines := tooWide(onTerminal(t, exec.Command("printf", "%0100d\nshort\n", "0"))); len(lines) != 1 || len(lines[0]) != 100 {
		t.Errorf("%q", lines)
	}
}
