package watchdog

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/pitboss-run/pitboss/ipc"
)

var writeManual = flag.Bool("manual.write", false, "write packaging/man/pitboss-watchdog.8")

const manualFile = "../packaging/man/pitboss-watchdog.8"

// usageFlag is a flag in the text of the usage: name, value, meaning.
var usageFlag = regexp.MustCompile(`(?m)^  (--[a-z-]+)( \S+)? +(.*)$`)

// exitMeanings are the codes of the page; those of the agent are passed on.
var exitMeanings = []struct {
	code int
	text string
}{
	{exitOK, "So the agent ended, or usage or version was printed."},
	{exitUsage, "Wrong command line."},
	{exitNotFound, "There is no such command."},
	{exitInternal, "The agent died, or something is left that could not be killed."},
	{exitLocked, "Another watchdog holds the lock."},
}

// manual is pitboss-watchdog(8), with the flags of the usage. The day of a build must not change it.
func manual() string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH PITBOSS\\-WATCHDOG 8 2026-11-26 \"pitboss %s\" \"pitboss manual\"\n", ipc.Version)
	b.WriteString(`.SH NAME
pitboss\-watchdog \- guard a pitboss agent and leave no process of it
.SH SYNOPSIS
\fBpitboss\-watchdog\fP [OPTION]... \-\- COMMAND [ARGUMENT]...
.SH DESCRIPTION
The watchdog starts COMMAND, an agent, as its child and is the subreaper of all
that the agent starts. When the agent dies, by whatever cause, or is silent and
by all evidence hangs, the watchdog kills what is left, writes a certificate of
the death as a line of JSON to standard error, and exits.
.PP
.BR pitboss (1)
starts it by itself; it is seldom called by hand.
INT and TERM go on to the agent.
Where it may (CAP_SYS_NICE or RLIMIT_NICE), it raises its own priority and the
agent's by ten steps of niceness; workers keep the niceness that it was started
with.
.SH OPTIONS
`)
	for _, f := range usageFlag.FindAllStringSubmatch(usage, -1) {
		fmt.Fprintf(&b, ".TP\n\\fB%s\\fP%s\n%s.\n", roff(f[1]), roff(f[2]), roff(strings.ToUpper(f[3][:1])+f[3][1:]))
	}
	b.WriteString(".SH EXIT STATUS\nThe status that the agent announced, or that of a command that never was an\nagent, or else:\n")
	for _, e := range exitMeanings {
		fmt.Fprintf(&b, ".TP\n\\fB%d\\fP\n%s\n", e.code, roff(e.text))
	}
	b.WriteString(".SH ENVIRONMENT\n")
	for _, v := range [...]struct{ name, text string }{
		{envCgroup, "delegated: the cgroup that this process was started in is its own to divide\n(Delegate= of systemd). The watchdog moves to supervisor/ in it before it starts\nthe agent, which makes a cgroup for each worker beside it."},
		{envNotify, "The service manager's socket (sd_notify(3)). WATCHDOG=1 is the watchdog's own\nsign of life, what else the agent has to say is passed on."},
		{"WATCHDOG_USEC", "How often the manager wants to hear WATCHDOG=1; it is said three times as often."},
		{"LISTEN_FDS", "Listeners of the service manager (sd_listen_fds(3)), handed on to the agent."},
	} {
		fmt.Fprintf(&b, ".TP\n\\fB%s\\fP\n%s\n", roff(v.name), roff(v.text))
	}
	b.WriteString(".SH FILES\n.TP\n\\fBlast\\-death.json\\fP\nIn the runtime directory: the certificate of the last agent that died.\n")
	b.WriteString(".SH EXAMPLES\n.nf\n  pitboss\\-watchdog \\-\\-lock /run/a.lock \\-\\- pitboss agent\n.fi\n.SH SEE ALSO\n.BR pitboss (1),\n.BR pitboss\\-agent (1)\n")
	return b.String()
}

func roff(text string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", `\[u2026]`).Replace(text)
}

// TestManual holds the man page to the flags and exit codes; `make gen` writes it.
func TestManual(t *testing.T) {
	page := manual()
	if *writeManual {
		if err := os.WriteFile(manualFile, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(manualFile); err != nil || string(got) != page {
		t.Errorf("%s is not what the flags say (%v); run `make gen`", manualFile, err)
	}
}

// TestTheUsageNamesEveryFlag: each line of it is a flag with a value that is taken, and no flag of users is missing.
func TestTheUsageNamesEveryFlag(t *testing.T) {
	values := map[string]string{"FILE": "/f", "DIR": "/d", "PID": "1", "": ""}
	named := map[string]bool{}
	for _, f := range usageFlag.FindAllStringSubmatch(usage, -1) {
		named[f[1]] = true
		args := []string{f[1]}
		if value := strings.TrimSpace(f[2]); value != "" {
			if sample, known := values[value]; known {
				value = sample
			}
			args = append(args, value)
		}
		if _, failed := parseFlags(append(args, "--runtime-dir", "/d", "--", "true")); failed != nil {
			t.Errorf("the usage names %q, which is refused: %s", args, failed.text)
		}
	}
	source, err := os.ReadFile("flags.go")
	if err != nil {
		t.Fatal(err)
	}
	code := strings.Replace(string(source), usage, "", 1)
	found := 0
	for _, name := range regexp.MustCompile(`"(--[a-z-]+)"`).FindAllStringSubmatch(code, -1) {
		found++
		if name[1] != "--inner" && !named[name[1]] { // --inner is for the watchdog itself
			t.Errorf("the usage does not name %s", name[1])
		}
	}
	if found < 8 || len(named) < 8 {
		t.Errorf("%d flags in the code, %d in the usage: the search is broken", found, len(named))
	}
}

func TestHelpIsTheUsage(t *testing.T) {
	out, err := exec.Command(binary, "--help").Output()
	if err != nil || string(out) != usage+"\n" {
		t.Errorf("%v: %s", err, out)
	}
	out, err = exec.Command(binary, "--halp").CombinedOutput()
	if err == nil || !strings.Contains(string(out), usage) {
		t.Errorf("a wrong flag: %v: %s", err, out)
	}
}
