package pitboss_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pitboss-run/pitboss/heartbeat"
)

// step is one command of a document with the output that it is shown with.
type step struct {
	line    int // of the command, from 1
	command string
	output  []string
}

// TestDocumentsTellTheTruth runs every ```console block of the documentation, in order, one shell per document, in an
// empty directory with an empty home. A line that begins with "$ " is a command, "> " continues it, anything else is its
// output (stdout and stderr), in which … stands for any text; a line that is only … stands for any lines.
func TestDocumentsTellTheTruth(t *testing.T) {
	documents, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, name := range append(documents, "README.md") {
		steps := stepsOf(t, name)
		total += len(steps)
		if len(steps) > 0 {
			t.Run(name, func(t *testing.T) { runSteps(t, name, steps) })
		}
	}
	if total < 10 {
		t.Errorf("only %d commands were found in the documents: the parser or the documents are broken", total)
	}
}

// TestTheDocumentCheckCanFail is the positive control: a document with a wrong output is found out.
func TestTheDocumentCheckCanFail(t *testing.T) {
	for _, c := range []struct {
		got, want string
		same      bool
	}{
		{"a\nb\n", "a\nb", true},
		{"pid 17, up 3 s\n", "pid …, up … s", true},
		{"a\nx\ny\nb\n", "a\n…\nb", true},
		{"a\n", "b", false},
		{"a\nb\n", "a", false},
		{"", "a", false},
		{"a.c\n", "abc", false},
	} {
		if same := pattern(strings.Split(c.want, "\n")).MatchString(c.got); same != c.same {
			t.Errorf("%q against %q: %t", c.got, c.want, same)
		}
	}
}

// TestVerdictsInTheGuarantees holds the documented table of verdicts to the code's.
func TestVerdictsInTheGuarantees(t *testing.T) {
	text, err := os.ReadFile("docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	if table := heartbeat.MarkdownTable(); !strings.Contains(string(text), table) {
		t.Errorf("docs/guarantees.md does not hold the table of verdicts as it is now:\n%s", table)
	}
}

// TestLinksInTheDocumentsLeadSomewhere follows every relative link.
func TestLinksInTheDocumentsLeadSomewhere(t *testing.T) {
	documents, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range append(documents, "README.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range regexp.MustCompile(`\]\(([^)#]+)`).FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			found++
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), link[1])); err != nil {
				t.Errorf("%s: the link to %q leads nowhere", name, link[1])
			}
		}
	}
	if found < 5 {
		t.Errorf("only %d links were found", found)
	}
}

func stepsOf(t *testing.T, name string) []step {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var steps []step
	inside := false
	for i, line := range strings.Split(string(text), "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
			if lang := strings.TrimPrefix(line, "```"); lang == "python" || lang == "go" || lang == "sh" || lang == "bash" {
				t.Errorf("%s:%d: a %s block is never run; write it as a console block", name, i+1, lang)
			}
		case !inside:
		case strings.HasPrefix(line, "$ "):
			steps = append(steps, step{line: i + 1, command: line[2:]})
		case line == ">" || strings.HasPrefix(line, "> "):
			last := &steps[len(steps)-1]
			last.command += "\n" + strings.TrimPrefix(strings.TrimPrefix(line, ">"), " ")
		default:
			last := &steps[len(steps)-1]
			last.output = append(last.output, line)
		}
	}
	return steps
}

// pattern is what the output must match: quoted text with … as the only wildcard.
func pattern(lines []string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`^`)
	for _, line := range lines {
		if line == "…" {
			b.WriteString(`(?:.*\n)*`)
			continue
		}
		b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(strings.TrimRight(line, " ")), "…", ".*") + ` *\n`)
	}
	return regexp.MustCompile(b.String() + `$`)
}

func runSteps(t *testing.T, name string, steps []step) {
	bin := os.Getenv("PITBOSS_BIN")
	if bin == "" {
		bin = "bin"
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(bin, "pitboss")); err != nil {
		t.Fatalf("%v; run `make build` first", err)
	}
	examples, err := filepath.Abs("examples")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(examples, filepath.Join(dir, "examples")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	const mark = "\x01"
	var script strings.Builder
	script.WriteString("exec 2>&1\nstatus=0\n")
	for i, s := range steps {
		fmt.Fprintf(&script, "(exit $status)\neval %s\nstatus=$?\nprintf '\\001%d\\n'\n", quoteForShell(s.command), i)
	}
	shell := exec.CommandContext(ctx, "bash", "-c", script.String())
	shell.Dir = dir
	shell.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + dir, "XDG_RUNTIME_DIR=" + dir, "LC_ALL=C.UTF-8"}
	if python := os.Getenv("PITBOSS_PYTHON"); python != "" {
		shell.Env = append(shell.Env, "PITBOSS_PYTHON="+python)
	}
	if counters := os.Getenv("GOCOVERDIR"); counters != "" { // binaries that count what they run complain without it
		shell.Env = append(shell.Env, "GOCOVERDIR="+counters)
	}
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	outputs := map[int]string{}
	read := bufio.NewReader(out)
	var got strings.Builder
	for at := 0; at < len(steps); {
		line, err := read.ReadString('\n')
		if before, _, found := strings.Cut(line, mark); found {
			got.WriteString(before)
			outputs[at] = got.String()
			got.Reset()
			at++
			continue
		}
		got.WriteString(line)
		if err != nil {
			t.Errorf("%s:%d: %q did not end: %v\n%.4000s", name, steps[at].line, steps[at].command, err, got.String())
			break
		}
	}
	// The shell is not reaped yet, so the group is its own: whatever a document that went wrong left running ends here.
	_ = syscall.Kill(-shell.Process.Pid, syscall.SIGTERM)
	_ = shell.Wait()
	for i, s := range steps {
		if text, ran := outputs[i]; ran && !pattern(s.output).MatchString(text) {
			t.Errorf("%s:%d: %q printed\n%.4000s", name, s.line, s.command, text)
		}
	}
}

func quoteForShell(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// TestDocumentsNameCommandsThatExist: every `pitboss COMMAND` and --flag in the documents is one.
func TestDocumentsNameCommandsThatExist(t *testing.T) {
	files, err := filepath.Glob("docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	bin := os.Getenv("PITBOSS_BIN")
	if bin == "" {
		bin = "bin"
	}
	help := map[string]string{}
	seen := 0
	for _, name := range append(files, "README.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`pitboss ((?:config )?[a-z]+)((?: [^`]*)?)`").FindAllStringSubmatch(string(text), -1) {
			command := m[1]
			if _, known := help[command]; !known {
				out, err := exec.Command(filepath.Join(bin, "pitboss"), append(strings.Fields(command), "--help")...).CombinedOutput()
				if err != nil {
					t.Errorf("%s: `pitboss %s` is no command: %s", name, command, out)
				}
				help[command] = string(out)
			}
			for _, flag := range regexp.MustCompile(`--[a-z-]+`).FindAllString(strings.Split(m[2], " -- ")[0], -1) {
				if !strings.Contains(help[command], flag) {
					t.Errorf("%s: `pitboss %s` has no flag %s", name, command, flag)
				}
			}
			seen++
		}
	}
	if seen < 20 {
		t.Errorf("only %d commands were found", seen)
	}
}

// TestDocumentsNameFilesThatExist: every path of a source file in the documents is one of this tree.
func TestDocumentsNameFilesThatExist(t *testing.T) {
	files, err := filepath.Glob("docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	seen := 0
	for _, name := range append(files, "README.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`([a-z_]+(?:/[a-z_]+)*/[a-z_]+\\.(?:go|py))`").FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(m[1]); err != nil {
				t.Errorf("%s names %s: %v", name, m[1], err)
			}
			seen++
		}
	}
	if seen < 20 {
		t.Errorf("only %d files were found", seen)
	}
}
