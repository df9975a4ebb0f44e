package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/pitboss-run/pitboss/ipc"
)

var writeGoldens = flag.Bool("golden.write", false, "write testdata/golden anew from what the binaries say; review the difference")

const goldenDir = "testdata/golden"

// golden records command lines of one host and holds what they print and how they end to a file of testdata/golden.
type golden struct {
	*host
	file   string
	blocks []string
}

// goldens begins a record; when the test ends it is compared with its file.
func (h *host) goldens(name string) *golden {
	g := &golden{host: h, file: filepath.Join(goldenDir, name+".txt")}
	h.t.Cleanup(func() {
		switch {
		case h.t.Failed() && *writeGoldens:
			h.t.Logf("%s is not written: the test failed", g.file)
		case *writeGoldens:
			must(h.t, os.MkdirAll(goldenDir, 0o755))
			must(h.t, os.WriteFile(g.file, []byte(strings.Join(g.blocks, "\n")), 0o644))
		default:
			g.compare()
		}
	})
	return g
}

// run runs a command line as a user types it: words without quotes, variables before it.
func (g *golden) run(lines ...string) {
	g.t.Helper()
	for _, line := range lines {
		words := strings.Fields(line)
		var env []string
		for strings.Contains(words[0], "=") {
			env, words = append(env, words[0]), words[1:]
		}
		for i := range words {
			words[i] = strings.ReplaceAll(words[i], "<home>", g.dir)
		}
		c := g.command(words[0], words[1:]...)
		c.Env = append(c.Env, env...)
		g.record(line, g.finish(c))
	}
}

// begin starts a command line that is recorded when it has ended, at the call of end.
func (g *golden) begin(line string) (s *service, end func()) {
	g.t.Helper()
	words := strings.Fields(strings.ReplaceAll(line, "<home>", g.dir))
	c := g.command(words[0], words[1:]...)
	var stdout bytes.Buffer
	c.Stdout = &stdout
	s = g.start(c)
	return s, func() {
		g.t.Helper()
		code := s.exit()
		g.record(line, ended{code, stdout.String(), s.log()})
	}
}

func (g *golden) record(line string, e ended) { g.blocks = append(g.blocks, g.block(line, e)) }

// block is one command in the golden file.
func (h *host) block(line string, e ended) string {
	var b strings.Builder
	fmt.Fprintf(&b, "$ %s\n", line)
	for _, text := range []struct{ mark, text string }{{"", e.stdout}, {"[stderr]\n", e.stderr}} {
		if text.text == "" {
			continue
		}
		b.WriteString(text.mark + h.placeholders(text.text))
		if !strings.HasSuffix(text.text, "\n") {
			b.WriteString("[no end of line]\n")
		}
	}
	fmt.Fprintf(&b, "[exit %d]\n", e.code)
	return b.String()
}

func (g *golden) compare() {
	g.t.Helper()
	text, err := os.ReadFile(g.file)
	if err != nil {
		g.t.Errorf("%v; `go test ./cmd/agent -golden.write` writes it", err)
		return
	}
	want := goldenBlocks(string(text))
	for i, got := range g.blocks {
		if i >= len(want) {
			g.t.Errorf("%s does not hold\n%s", g.file, got)
		} else if got != want[i] {
			g.t.Errorf("%s: got\n%s\nwant\n%s\nfirst difference: %s", g.file, got, want[i], firstDifference(got, want[i]))
		}
	}
	for _, more := range want[min(len(g.blocks), len(want)):] {
		g.t.Errorf("%s holds what was not run:\n%s", g.file, more)
	}
}

func firstDifference(got, want string) string {
	w := strings.Split(want, "\n")
	for i, line := range strings.Split(got, "\n") {
		if i >= len(w) || line != w[i] {
			return fmt.Sprintf("line %d, %q", i+1, line)
		}
	}
	return "it is shorter"
}

// goldenBlocks takes a golden file apart again.
func goldenBlocks(text string) (blocks []string) {
	for _, block := range strings.Split("\n"+text, "\n$ ")[1:] {
		blocks = append(blocks, "$ "+block)
	}
	return blocks
}

// volatile is what differs from run to run: the pattern names its neighbours, so that only a value in its place is replaced,
// and only one that can be right (a pid is never 0). The rest of a line is compared as it is.
var volatile = []struct {
	pattern     *regexp.Regexp
	replacement string
}{
	{regexp.MustCompile(`("(?:pid|pgid|keeper_pid|launcher_pid|agent_pid)":\s?)[1-9]\d*\b`), "$1<pid>"},
	{regexp.MustCompile(`("run_id":\s?)"[0-9a-f]{16}"`), `$1"<run>"`},
	{regexp.MustCompile(`("(?:uptime_s|rtt_ms|last_pong_age_s|queued_s|ran_s|clean_up_ms|age_ns|left_ns|rtt_ns|rss_bytes|pss_bytes|took_s|after_s|max_rss_kb|seq)":\s?)\d+(?:\.\d+)?(?:e-\d+)?\b`), "$1<number>"},
	{regexp.MustCompile(`("(?:uptime)":\s?)"[0-9.]+(?:ms|s)"`), `$1"<duration>"`},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)`), "<time>"},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\b`), "<time>"},
	{regexp.MustCompile(`\b((?:keeper_|agent_)?pid[ =]|launcher )[1-9]\d*\b`), "$1<pid>"},
	{regexp.MustCompile(`\b(run[ =]|run_id=)[0-9a-f]{16}\b`), "$1<run>"},
	{regexp.MustCompile(`\b(run-)[0-9a-f]{12}\b`), "$1<run>"},
	{regexp.MustCompile(`\b(pitboss-bench)\d+\b`), "$1<n>"},
	{regexp.MustCompile(`("(?:t_detect_us|t_term_us|t_empty_us|killed)":\s?)\d+\b`), "$1<number>"}, // how much the keepers left to the watchdog is a race
	{regexp.MustCompile(`\b((?:empty_us|killed)=)\d+\b`), "$1<number>"},
	{regexp.MustCompile(`(; empty after )[0-9.]+(?:ms|s|µs), \d+ killed`), "$1<duration>, <number> killed"},
	{regexp.MustCompile(`\b((?:uptime_s|after_s|took_s|max_rss_kb)=)[0-9.]+(?:e-\d+)?\b`), "$1<number>"},
	{regexp.MustCompile(`(\bup |answered after |cleaned up in |\bafter |\band |\bfor )(?:\d+h)?(?:\d+m)?\d+(?:\.\d+)?(?:s|ms|µs|ns)(,|:| in the queue| so far|\n)`), "$1<duration>$2"},
	{regexp.MustCompile(`(peak memory )[1-9]\d* MiB`), "$1<size>"},
	{regexp.MustCompile(`\b0x[0-9a-f]{8,16}\b`), "<address>"},
	{regexp.MustCompile(`(/pitboss/python-)[0-9a-f]{16}\b`), "$1<hash>"},
	{regexp.MustCompile(`(?:  File \\?"<home>/pitboss/python-<hash>/[^"]*", line \d+ in \w+(?:\n|\\n))+`), "  <frames of pitboss>\n"},
	{regexp.MustCompile(`File (\\?)"[^"]*/lib/python3[^"]*/(\w+\.py)(\\?)", line \d+`), `File $1"<stdlib>/$2$3", line <n>`},
	{regexp.MustCompile(`((?:Current thread|Thread) <address>) \[[^\]]*\]`), "$1"}, // since Python 3.14 with its name
}

// columns are those of the tables whose values differ from run to run, with what a value looks like.
var columns = map[string]*regexp.Regexp{
	"PID":  regexp.MustCompile(`^[1-9]\d*$`),
	"RTT":  regexp.MustCompile(`^\d+\.\d\d ms$`),
	"AGE":  regexp.MustCompile(`^\d[\d.hm]*(s|ms|µs|ns)$`),
	"UP":   regexp.MustCompile(`^\d[\d.hm]*(s|ms|µs|ns)$`),
	"RSS":  regexp.MustCompile(`^\d+\.\d MiB$`),
	"PSS":  regexp.MustCompile(`^\d+\.\d MiB$`),
	"LEFT": regexp.MustCompile(`^\d[\d.hm]*(s|ms|µs|ns)$`),
}

// placeholders puts names in the place of what differs from run to run.
func (h *host) placeholders(text string) string {
	python := os.Getenv("PITBOSS_PYTHON")
	if python == "" {
		python, _ = exec.LookPath("python3")
	}
	for _, p := range [][2]string{{h.dir, "<home>"}, {binaries, "<bin>"}, {python, "<python>"}, {runtime.Version(), "<go>"}} {
		if p[0] != "" {
			text = strings.ReplaceAll(text, p[0], p[1])
		}
	}
	if os.Getenv("GOCOVERDIR") != "" { // what a binary that counts what it runs says where it may not write
		text = regexp.MustCompile(`(?m)^error: coverage .*\n`).ReplaceAllString(text, "")
	}
	text = regexp.MustCompile(`\b`+regexp.QuoteMeta(ipc.Version)+`\b`).ReplaceAllString(text, "<version>")
	for _, v := range volatile {
		text = v.pattern.ReplaceAllString(text, v.replacement)
	}
	return tables(text)
}

var gap = regexp.MustCompile(` {2,}`)

// tables puts two spaces between the cells of a table, since widths follow the values, and names in its volatile columns.
func tables(text string) string {
	var head []string
	lines := strings.SplitAfter(text, "\n")
	for i, line := range lines {
		body := strings.TrimRight(line, "\n")
		indent := body[:len(body)-len(strings.TrimLeft(body, " "))]
		cells := gap.Split(strings.TrimSpace(body), -1)
		switch {
		case len(cells) > 4 && strings.ToUpper(body) == body:
			head = cells
		case head == nil || len(cells) < len(head)-1:
			head = nil
			continue
		}
		for c := range cells {
			if c < len(head) && columns[head[c]] != nil && columns[head[c]].MatchString(cells[c]) {
				cells[c] = "<" + strings.ToLower(head[c]) + ">"
			}
		}
		lines[i] = indent + strings.Join(cells, "  ") + line[len(body):]
	}
	return strings.Join(lines, "")
}

// TestTheGoldensSeeADifference is the instrument's control: what is replaced is only what must be, and a word, a field, its
// place or a value that cannot be right is a difference.
func TestTheGoldensSeeADifference(t *testing.T) {
	h := &host{dir: "/tmp/pb1"}
	const human = "agent     pid 12, running, up 3.5s, tier tree, run 0123456789abcdef\n  WORKER  PID  STATE  VERDICT  CALLS  RTT  LAST EXIT\n  a-0.1  77  ready  healthy  3  0.12 ms\n"
	const doc = `{"pid": 12, "run_id": "0123456789abcdef", "uptime_s": 3.5, "state": "running"}`
	for _, c := range []struct {
		one, other string
		same       bool
	}{
		{human, strings.NewReplacer("12,", "4711,", "3.5s", "1h2m3s", "0123456789abcdef", "fedcba9876543210", "0.12", "11.40", "  77  ", "     4711  ").Replace(human), true},
		{human, strings.Replace(human, "running", "draining", 1), false},
		{human, strings.Replace(human, "pid 12", "pid 0", 1), false},
		{human, strings.Replace(human, ", up 3.5s", "", 1), false},
		{human, strings.Replace(human, "up 3.5s", "up soon", 1), false},
		{human, strings.Replace(human, "0123456789abcdef", "", 1), false},
		{human, strings.Replace(human, "  77  ", "  0  ", 1), false},
		{human, strings.Replace(human, "  3  ", "  4  ", 1), false},
		{human, strings.Replace(human, "0.12 ms", "NaN ms", 1), false},
		{doc, strings.NewReplacer("12", "13", "3.5", "0").Replace(doc), true},
		{doc, strings.Replace(doc, `"pid": 12, `, "", 1), false},
		{doc, strings.Replace(doc, `"pid": 12`, `"pid": 0`, 1), false},
		{doc, strings.Replace(doc, "3.5", "-1", 1), false},
		{doc, `{"run_id": "0123456789abcdef", "pid": 12, "uptime_s": 3.5, "state": "running"}`, false},
		{"/tmp/pb1/tools.py", "/tmp/pb2/tools.py", false},
		{"did not end within 300ms\n", "did not end within 400ms\n", false},
		{"calls still run after 100ms; no", "calls still run after 200ms; no", false},
	} {
		one, other := h.block("x", ended{0, c.one, ""}), h.block("x", ended{0, c.other, ""})
		if (one == other) != c.same {
			t.Errorf("same is %t, want %t:\n%s%s", one == other, c.same, one, other)
		}
	}
	line := ended{0, "text\n", ""}
	for _, other := range []ended{{1, "text\n", ""}, {0, "", "text\n"}, {0, "text", ""}, {0, "text\n", "more\n"}} {
		if h.block("x", line) == h.block("x", other) {
			t.Errorf("%+v and %+v are the same", line, other)
		}
	}
	blocks := []string{h.block("a", line), h.block("b", ended{1, "", "with\n\na gap\n"})}
	if got := goldenBlocks(strings.Join(blocks, "\n")); len(got) != 2 || got[0] != blocks[0] || got[1] != blocks[1] {
		t.Errorf("%q is read as %q", blocks, got)
	}
}
