package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var writeHelps = flag.Bool("help.write", false, "write testdata/help")

// everyCommand is the tree, root first, as a user has it.
func everyCommand() (all []*cobra.Command) {
	root := newRoot(&global{stdout: io.Discard, stderr: io.Discard})
	root.InitDefaultHelpCmd()
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		c.InitDefaultHelpFlag()
		all = append(all, c)
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	return all
}

func helpOf(c *cobra.Command) string {
	var b bytes.Buffer
	writeHelp(&b, c)
	return b.String()
}

// TestHelpTexts holds every help, and the overview, to the text that was read and found good; -help.write takes what is now.
func TestHelpTexts(t *testing.T) {
	const dir = "testdata/help"
	want := map[string]string{}
	for _, c := range everyCommand() {
		want[strings.ReplaceAll(c.CommandPath(), " ", "-")+".txt"] = helpOf(c)
	}
	var overview bytes.Buffer
	writeOverview(&overview, everyCommand()[0])
	want["overview.txt"] = overview.String()
	if *writeHelps {
		must(t, os.RemoveAll(dir))
		must(t, os.MkdirAll(dir, 0o755))
		for name, text := range want {
			must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
		}
	}
	files, err := os.ReadDir(dir)
	must(t, err)
	for _, file := range files {
		if _, known := want[file.Name()]; !known {
			t.Errorf("%s is the help of no command", file.Name())
		}
	}
	for name, text := range want {
		if golden, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(golden) != text {
			t.Errorf("%s is not the help as it is now (%v); see what changed, then `go test ./cmd/agent -run TestHelpTexts -help.write`:\n%s", name, err, text)
		}
	}
}

// TestTheBinaryPrintsTheseHelps: what the tests look at is what a user sees, on standard output and with exit code 0.
func TestTheBinaryPrintsTheseHelps(t *testing.T) {
	h := newHost(t)
	for _, c := range []struct{ line, golden string }{
		{"", "overview"}, {"--help", "pitboss"}, {"help", "pitboss"}, {"run --help", "pitboss-run"}, {"help run", "pitboss-run"}, {"run -h", "pitboss-run"},
		{"config", "pitboss-config"}, {"config check --help", "pitboss-config-check"}, {"help config check", "pitboss-config-check"},
		{"completion -h", "pitboss-completion"}, {"help help", "pitboss-help"}, {"help --help", "pitboss-help"},
	} {
		want, err := os.ReadFile(filepath.Join("testdata/help", c.golden+".txt"))
		must(t, err)
		e := h.pitboss(strings.Fields(c.line)...)
		e.want(t, 0)
		if e.stdout != string(want) || e.stderr != "" {
			t.Errorf("pitboss %s printed\n%s%s", c.line, e.stdout, e.stderr)
		}
	}
	h.pitboss("help", "rnu").want(t, 64, `unknown command "rnu"`, "did you mean `pitboss run`?")
	h.pitboss("help", "config", "chek").want(t, 64, `unknown command "chek"`, "did you mean `pitboss config check`?")
	h.pitboss("completion", "tcsh").want(t, 64, `invalid argument "tcsh"`, "usage: pitboss completion bash|fish|zsh")
}

// TestTabAfterHelp: names of commands, with what they do.
func TestTabAfterHelp(t *testing.T) {
	h := newHost(t)
	for _, c := range []struct{ line, want string }{
		{"__complete help", "run\tstart a private agent"}, {"__complete help config", "check\tprint ok"}, {"__complete completion", "fish\n"},
	} {
		e := h.pitboss(append(strings.Fields(c.line), "")...)
		if e.code != 0 || !strings.Contains(e.stdout, c.want) || !strings.Contains(e.stdout, "\n:4\n") {
			t.Errorf("%s: %d %s%s", c.line, e.code, e.stdout, e.stderr)
		}
	}
}

// TestEveryHelpIsComplete: verb, example and exit codes, in lines that fit.
func TestEveryHelpIsComplete(t *testing.T) {
	commands := everyCommand()
	if len(commands) < 25 {
		t.Fatalf("only %d commands are found", len(commands))
	}
	paths := map[string]bool{}
	for _, c := range commands {
		path := c.CommandPath()
		paths[path] = true
		if !regexp.MustCompile(`^[a-z]+ .*[^.]$`).MatchString(c.Short) || len(c.Short) > 66 {
			t.Errorf("%s: the short text %q is no verb in lower case with 66 columns at most", path, c.Short)
		}
		if c.HasParent() && c.Example == "" {
			t.Errorf("%s has no example", path)
		}
		codes, text := exitsOf(c)
		if len(codes) < 3 || codes[0] != exitOK || !slices.Contains(codes, exitUsage) {
			t.Errorf("%s ends with %v", path, codes)
		}
		for _, code := range codes {
			if text[code] == "" || commandExits["pitboss"][code] == "" {
				t.Errorf("%s: exit code %d says nothing, here or for all", path, code)
			}
		}
		for line := range strings.Lines(helpOf(c)) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); n > helpWidth {
				t.Errorf("%s: %d columns: %s", path, n, line)
			}
		}
	}
	for path := range commandExits {
		if !paths[path] {
			t.Errorf("exit codes are documented for %q, which is no command", path)
		}
	}
	if all := len(commandExits["pitboss"]); all != 10 {
		t.Errorf("the codes of all commands are %d, exit.go has 10", all)
	}
}

// TestTheOverviewIsOneScreen: 40 lines at most, and no command is forgotten.
func TestTheOverviewIsOneScreen(t *testing.T) {
	var b bytes.Buffer
	root := everyCommand()[0]
	writeOverview(&b, root)
	if n := strings.Count(b.String(), "\n"); n > 42 {
		t.Errorf("%d lines", n)
	}
	for _, c := range root.Commands() {
		if shown := strings.Contains(b.String(), "\n  "+c.Name()+" "); shown == (c.Name() == "help") {
			t.Errorf("%s is shown: %t", c.Name(), shown)
		}
		if c.GroupID == "" && c.Name() != "help" {
			t.Errorf("%s is in no group", c.Name())
		}
	}
}

// pitbossWords matches one call of pitboss in a line of shell, up to what ends it.
var pitbossWords = regexp.MustCompile(`\bpitboss ([a-z][^|;&>)]*)`)

// exampleFault says what is wrong with an example's line: its command must exist and its flags must parse.
func exampleFault(line string) error {
	code, _, _ := strings.Cut(strings.TrimSpace(line), "   ") // a remark comes after three blanks
	for _, match := range pitbossWords.FindAllStringSubmatch(code, -1) {
		root := newRoot(&global{stdout: io.Discard, stderr: io.Discard})
		root.InitDefaultHelpCmd()
		words := strings.Fields(match[1])
		c, rest, err := root.Find(words)
		if err != nil {
			return err
		}
		if c == root {
			return fail(exitUsage, "", "%q names no command", line)
		}
		if err := c.ParseFlags(rest); err != nil {
			return err
		}
		if c.Args != nil {
			if err := c.Args(c, c.Flags().Args()); err != nil {
				return err
			}
		}
	}
	if !strings.Contains(code, "pitboss ") {
		return fail(exitUsage, "", "%q does not use pitboss", line)
	}
	return nil
}

func TestEveryExampleParses(t *testing.T) {
	lines := strings.Split(firstSteps, "\n")
	for _, c := range everyCommand() {
		if c.HasParent() && !strings.Contains(c.Example, c.CommandPath()+" ") && !strings.Contains(c.Example+"\n", c.CommandPath()+"\n") {
			t.Errorf("no example of %s uses it", c.CommandPath())
		}
		if c.Example != "" {
			lines = append(lines, strings.Split(c.Example, "\n")...)
		}
	}
	for _, line := range lines {
		if !strings.HasPrefix(line, "  ") || strings.HasPrefix(line, "   ") {
			t.Errorf("%q is not indented by two blanks", line)
		}
		if err := exampleFault(line); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	}
	for _, wrong := range []string{"  pitboss rnu tools.py", "  pitboss run --wrokers 2 tools.py", "  pitboss ping", "  pitboss wait --timeout soon", "  ls", "  pitboss status extra"} {
		if exampleFault(wrong) == nil {
			t.Errorf("the check lets %q pass", wrong)
		}
	}
}

// TestACutOutputIsAnError: a full disk behind standard output is told, by commands that look at what prints say and by others.
func TestACutOutputIsAnError(t *testing.T) {
	h := newHost(t)
	for _, line := range []string{"", "--help", "version", "version --json", "config defaults", "completion bash", "run tools.py add a=1 b=2"} {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		must(t, err)
		c := h.command("pitboss", strings.Fields(line)...)
		c.Stdout = full
		h.finish(c).want(t, 1, "pitboss: cannot ", "no space left on device")
		full.Close()
	}
}
