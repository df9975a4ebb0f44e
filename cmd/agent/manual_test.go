package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/ipc"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var writeManual = flag.Bool("manual.write", false, "write packaging/man/pitboss*.1")

// manualDir holds the man pages; the watchdog's, in section 8, is written by the watchdog's own test.
const manualDir = "../../packaging/man"

// manualDate is that of the pages, by hand: the day of a build must not change them.
const manualDate = "2026-11-26"

// manual is every page by its file's name. It is made in a test, so that nothing of it is in the product.
func manual(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	for _, c := range everyCommand() {
		pages[manualName(c)+".1"] = manualPage(t, c)
	}
	return pages
}

func manualName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

func manualPage(t *testing.T, c *cobra.Command) string {
	t.Helper()
	name, use, long, example := manualName(c), c.UseLine(), c.Long, c.Example
	if !c.HasParent() {
		use, long, example = "pitboss COMMAND [ARGUMENT]...", manualIntroduction, firstSteps
	}
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1 %s \"pitboss %s\" \"pitboss manual\"\n", roff(strings.ToUpper(name)), manualDate, ipc.Version)
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n.SH SYNOPSIS\n", roff(name), roff(c.Short))
	for i, form := range strings.Split(use, " | "+c.Name()+" ") { // two forms of a command are two lines
		if i > 0 {
			b.WriteString(".br\n")
			form = c.CommandPath() + " " + form
		}
		fmt.Fprintf(&b, "\\fB%s\\fP%s\n", roff(c.CommandPath()), roff(strings.TrimPrefix(form, c.CommandPath())))
	}
	b.WriteString(".SH DESCRIPTION\n" + paragraphs(orElse(long, sentence(c.Short))))
	b.WriteString(".SH OPTIONS\n")
	c.NonInheritedFlags().VisitAll(func(f *pflag.Flag) { b.WriteString(option(f)) })
	if c.HasParent() {
		b.WriteString(".PP\nThese are options of every command:\n")
		c.InheritedFlags().VisitAll(func(f *pflag.Flag) { b.WriteString(option(f)) })
	}
	b.WriteString(exitStatus(c))
	if !c.HasParent() {
		b.WriteString(environment(t) + manualFiles)
	}
	b.WriteString(".SH EXAMPLES\n.nf\n" + roffLines(example) + ".fi\n.SH SEE ALSO\n" + related(c))
	return b.String()
}

const manualIntroduction = `An agent keeps pools of warm Python workers and calls tools in them. A small watchdog is its parent: however the agent
dies, no process of it is left.

Each command has a page of its own, named at the end of this one.`

func orElse(text, otherwise string) string {
	if text != "" {
		return text
	}
	return otherwise
}

// paragraphs is filled text, a sentence or more to a line.
func paragraphs(text string) string {
	var all []string
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		all = append(all, roffLines(fill(paragraph, "")))
	}
	return strings.Join(all, ".PP\n")
}

func roffLines(text string) (lines string) {
	for line := range strings.SplitSeq(text, "\n") {
		lines += roff(line) + "\n"
	}
	return lines
}

// option is the entry of one flag.
func option(f *pflag.Flag) string {
	value, usage := pflag.UnquoteUsage(f)
	term := "--" + f.Name
	if f.Shorthand != "" {
		term = "-" + f.Shorthand + ", " + term
	}
	if value != "" {
		term += " " + strings.ToUpper(value)
	}
	if d := f.DefValue; d != "" && d != "false" && d != "0" && d != "0s" && d != "[]" {
		usage += " (default " + d + ")"
	}
	return entry(term, sentence(usage))
}

// related names the pages above and below; that of root names all.
func related(c *cobra.Command) string {
	var names []string
	if c.HasParent() {
		names = append(names, manualName(c.Parent()))
	}
	for _, sub := range c.Commands() {
		names = append(names, manualName(sub))
	}
	text := ""
	for _, name := range names {
		text += ".BR " + roff(name) + " (1),\n"
	}
	if !c.HasParent() {
		return text + ".BR pitboss\\-watchdog (8)\n"
	}
	return strings.TrimSuffix(text, ",\n") + "\n"
}

// roff is text as it stands in a page.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", `\[u2026]`).Replace(text)
	text = regexp.MustCompile("`([^`]*)`").ReplaceAllString(text, `\fB$1\fP`)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}

func entry(term, text string) string { return ".TP\n\\fB" + roff(term) + "\\fP\n" + roff(text) + "\n" }

func exitStatus(c *cobra.Command) string {
	page := ".SH EXIT STATUS\n"
	codes, text := exitsOf(c)
	for _, code := range codes {
		page += entry(fmt.Sprint(code), sentence(text[code]))
	}
	return page
}

// variableRow is a row of the table of variables that the code knows, in its documentation.
var variableRow = regexp.MustCompile("(?m)^\\| `(PITBOSS_[^`]*)` \\| (.*) \\|$")

// environment has the variables of users, then the names of those that are not for them, all from the code.
func environment(t *testing.T) string {
	t.Helper()
	meaning := map[string]string{}
	var internal []string
	users := []string{"PITBOSS_SOCKET", "PITBOSS_PYTHON", "PITBOSS_BINARY", "PITBOSS_WATCHDOG"}
	for _, row := range variableRow.FindAllStringSubmatch(agent.ConfigMarkdown(), -1) {
		meaning[row[1]] = row[2]
		if !strings.HasPrefix(row[2], "development:") && !strings.Contains(row[1], ",") && !slices.Contains(users, row[1]) {
			internal = append(internal, row[1])
		}
	}
	page := ".SH ENVIRONMENT\n"
	for _, name := range users {
		if meaning[name] == "" {
			t.Fatalf("%s is no variable any more", name)
		}
		page += entry(name, sentence(meaning[name]))
	}
	page += entry("PITBOSS_<KEY>", "Overrides a key of the configuration: its path in upper case, with _ for other characters.")
	page += entry("XDG_RUNTIME_DIR", "Where sockets and runtime directories of a user's agents are, below pitboss/.")
	page += entry("VIRTUAL_ENV", "Interpreter of pools that name none, after PITBOSS_PYTHON.")
	return page + ".PP\nSet by pitboss for its own processes, and not to be set by others: " + roff(strings.Join(internal, ", ")) + ".\n"
}

var manualFiles = ".SH FILES\n" +
	entry("/etc/pitboss/pitboss.yaml", "The configuration, where --config names no other.") +
	entry("/etc/pitboss/conf.d/*.yaml", "More of it; pools are merged by name.") +
	entry("$XDG_RUNTIME_DIR/pitboss/agent.sock", "The socket of a user's agent; --instance NAME makes it NAME.sock.") +
	entry("/run/pitboss/agent.sock", "The socket of root's agent, where XDG_RUNTIME_DIR is not set.") +
	entry("agent/last-death.json", "Beside the socket: the certificate of the last agent that died.") +
	entry("agent/run.jsonl", "Beside the socket: what runs, for the next agent to sweep.")

// TestManual holds the man pages to the commands; `make gen` writes them.
func TestManual(t *testing.T) {
	pages := manual(t)
	if *writeManual {
		must(t, os.MkdirAll(manualDir, 0o755))
		old, _ := filepath.Glob(filepath.Join(manualDir, "*.1"))
		for _, name := range old {
			must(t, os.Remove(name))
		}
		for name, page := range pages {
			must(t, os.WriteFile(filepath.Join(manualDir, name), []byte(page), 0o644))
		}
	}
	there, err := filepath.Glob(filepath.Join(manualDir, "*.1"))
	must(t, err)
	for _, name := range there {
		if pages[filepath.Base(name)] == "" {
			t.Errorf("%s is the page of no command", name)
		}
	}
	for name, page := range pages {
		if got, err := os.ReadFile(filepath.Join(manualDir, name)); err != nil || string(got) != page {
			t.Errorf("%s is not what the command says (%v); run `make gen`", name, err)
		}
	}
}

// TestManualPagesAreWellFormed: what man and whatis need, each flag and exit code, and nothing that Markdown has left.
func TestManualPagesAreWellFormed(t *testing.T) {
	for _, c := range everyCommand() {
		name := manualName(c)
		text, err := os.ReadFile(filepath.Join(manualDir, name+".1"))
		must(t, err)
		for _, fault := range roffFaults(string(text), name, c.Short) {
			t.Errorf("%s.1: %s", name, fault)
		}
		c.InitDefaultHelpFlag()
		for _, f := range everyFlag(c) {
			if !regexp.MustCompile(`(?m)^\.TP\n\\fB(\\-[a-z], )?` + regexp.QuoteMeta(roff("--"+f)) + `( [A-Z]+)?\\fP\n[A-Z]`).Match(text) {
				t.Errorf("%s.1 does not tell of --%s", name, f)
			}
		}
		codes, _ := exitsOf(c)
		for _, code := range codes {
			if !strings.Contains(string(text), fmt.Sprintf(".TP\n\\fB%d\\fP\n", code)) {
				t.Errorf("%s.1 does not tell of exit code %d", name, code)
			}
		}
	}
}

func everyFlag(c *cobra.Command) (names []string) {
	add := func(f *pflag.Flag) { names = append(names, f.Name) }
	c.NonInheritedFlags().VisitAll(add)
	c.InheritedFlags().VisitAll(add)
	return names
}

// roffFaults are the faults of one page.
func roffFaults(text, name, short string) (faults []string) {
	plain := strings.ReplaceAll(text, `\-`, "-")
	if !strings.HasPrefix(text, ".TH ") {
		faults = append(faults, "it does not begin with .TH")
	}
	if !strings.Contains(plain, ".SH NAME\n"+name+" - "+short+"\n") || !strings.Contains(text, ` \- `) {
		faults = append(faults, "whatis cannot read its NAME")
	}
	for _, section := range []string{"SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "EXAMPLES", "SEE ALSO"} {
		if strings.Count(text, "\n.SH "+section+"\n") != 1 {
			faults = append(faults, "it has not one section "+section)
		}
	}
	for line := range strings.Lines(text) {
		if regexp.MustCompile("^#|```|\\*\\*|\\]\\(").MatchString(line) {
			faults = append(faults, "stray Markdown: "+line)
		}
	}
	return faults
}

func TestTheCheckOfPagesSees(t *testing.T) {
	good := ".TH A 1\n.SH NAME\na \\- do it\n.SH SYNOPSIS\n.SH DESCRIPTION\n.SH EXIT STATUS\n.SH EXAMPLES\n.SH SEE ALSO\n"
	if faults := roffFaults(good, "a", "do it"); len(faults) != 0 {
		t.Errorf("a good page has %q", faults)
	}
	for _, bad := range []string{good + "**x**\n", good + "```\n", strings.Replace(good, ".TH", ".th", 1), strings.Replace(good, ".SH EXAMPLES\n", "", 1), strings.Replace(good, "do it", "do that", 1)} {
		if len(roffFaults(bad, "a", "do it")) != 1 {
			t.Errorf("the check lets pass\n%s", bad)
		}
	}
}
