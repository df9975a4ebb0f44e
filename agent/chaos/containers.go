package chaos

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// containerScenarios are what a container or a hardened host does to a process.
func containerScenarios() []Scenario {
	row := func(name, what string, cannot func(*Host) string, h strangeHost) Scenario {
		h.tier = "tree"
		return Scenario{Name: name, What: what, Expect: coreExpect, Rounds: 1, Long: 5, Waits: true, Cannot: cannot, Run: h.run}
	}
	inPID := func(r *Round) []string { return namespace(r.host, append(newPID, "--mount-proc")...) }
	return []Scenario{
		row("pid-1", "the agent is process 1 of a pid namespace", needsPIDNamespace, strangeHost{before: inPID, ends: syscall.SIGKILL}),
		row("pid-1-with-sidecar", "a script that is process 1 starts a side-car, leaves orphans and becomes the agent", needsPIDNamespace,
			strangeHost{bystanders: 1, ends: syscall.SIGKILL, beside: sidecarLives, before: func(r *Round) []string {
				return append(inPID(r), "sh", "-c", `sleep 600 & (sh -c "sleep 0.1 & exec true" &); (sh -c "sleep 0.2 & exec true" &); exec "$@"`, "sh")
			}}),
		{Name: "pid-1-of-a-program", What: "`pitboss run ADAPTER -- CMD` is process 1", Expect: "the program calls, its exit status comes out, nothing is left", Rounds: 1, Long: 5,
			Waits: true, Cannot: needsPIDNamespace, Run: pid1OfAProgram},
		row("hidepid", "/proc hides what is other users' (hidepid=2), and the agent is nobody's", needsNobody,
			strangeHost{asNobody: true, ends: syscall.SIGKILL, before: func(*Round) []string { return hidden("hidepid=2") }}),
		row("hidepid-without-lists", "the same with hidepid=1 and no lists of children", needsNobody, strangeHost{asNobody: true, ends: syscall.SIGKILL, before: func(r *Round) []string {
			return append(hidden("hidepid=1"), Lesser(r.host.Binary, "file:/children")...)
		}}),
		row("proc-subset-pid", "/proc has processes and nothing else (ProcSubset=pid)", needs(NeedsRoot, needsPIDNamespace),
			strangeHost{ends: syscall.SIGKILL, before: func(*Round) []string { return procOf("subset=pid") }}),
		row("user-namespace", "a plain user in a user namespace that maps nobody", needsPlainUser,
			strangeHost{asNobody: true, before: func(r *Round) []string { return plainUser(r.host) }}),
		row("no-new-privileges", "no_new_privs is set before the agent starts", func(*Host) string {
			return tries([]string{"setpriv", "--no-new-privs"}, "needs setpriv(1)")
		}, strangeHost{before: func(*Round) []string { return []string{"setpriv", "--no-new-privs"} }}),
		row("read-only-root", "every file system is read-only but the runtime directory's, which is noexec", needs(NeedsRoot, needsMounts),
			strangeHost{before: func(r *Round) []string { return mounted(r.host, readOnly(r.dir)) }}),
	}
}

// readOnly mounts the round's directory over itself, so that it alone stays writable, and nothing in it can be executed.
func readOnly(dir string) string {
	return fmt.Sprintf(`mount --bind %[1]s %[1]s && mount -o remount,bind,noexec,nosuid,nodev %[1]s &&
	for at in / /tmp /dev/shm /run; do mountpoint -q $at && mount -o remount,bind,ro $at; done;
	! touch /tmp/pitboss-chaos /dev/shm/pitboss-chaos 2>/dev/null`, dir)
}

// sidecarLives: who was there before the agent is none of its children, and whoever falls to process 1 is reaped.
func sidecarLives(r *Round) {
	first := r.agents[0].Watchdog.PID
	first = parentOf(first) // the watchdog proper is below process 1
	side := 0
	for _, pid := range ChildrenOf(first) {
		if programOf(pid) == "sleep" {
			side = pid
		}
	}
	if side == 0 {
		r.Innocent("the side-car below process 1 (here %d) is gone", first)
	}
	r.Until("process 1 without a zombie", func() bool {
		for _, pid := range ChildrenOf(first) {
			if stat, err := os.ReadFile("/proc/" + itoa(pid) + "/stat"); err == nil && strings.Contains(string(stat), ") Z ") {
				return false
			}
		}
		return true
	})
}

func pid1OfAProgram(r *Round) {
	r.Write("guest.py", guest)
	script := `[ "$(` + r.host.Binary + ` call add a=2 b=3)" = 5 ] || exit 9; [ -d /proc/1 ] && exit 7`
	code, said := r.pitboss(namespace(r.host, append(newPID, "--mount-proc")...), nil, "run", "--kill-grace", grace.String(), r.File("guest.py"), "--", "sh", "-c", script)
	if code != 7 {
		r.Errorf("exit code %d, want the program's 7:\n%s", code, said)
	}
	r.Empty(limit)
}

// procOf mounts a proc of these options in a pid namespace of its own: before Linux 5.8 the options were the whole namespace's. The shell
// stays process 1.
func procOf(options string) []string {
	return []string{"unshare", "-m", newPID[0], newPID[1], "--propagation", "private", "sh", "-c", "mount -t proc -o " + options + ` proc /proc && "$@"; exit $?`, "sh"}
}

// hidden makes the command nobody's below such a proc.
func hidden(options string) []string {
	return append(procOf(options), wordsAsNobody()...)
}

// plainUser is a user namespace without a map; root becomes nobody first.
func plainUser(h *Host) []string {
	if h.Root {
		return append(wordsAsNobody(), "unshare", "-U")
	}
	return []string{"unshare", "-U"}
}

func needsPlainUser(h *Host) string {
	if why := tries(plainUser(h), "needs user namespaces for everybody"); why != "" || !h.Root {
		return why
	}
	return nobodyServes(h)
}

// needsNobody: root may become nobody, who may run the binary and a Python.
func needsNobody(h *Host) string {
	if why := NeedsRoot(h); why != "" {
		return why
	}
	if why := tries(hidden("hidepid=2"), "needs a pid namespace and setpriv(1)"); why != "" {
		return why
	}
	return nobodyServes(h)
}

func nobodyServes(h *Host) string {
	if !nobodyRuns(h.Binary, "version") {
		return "needs a pitboss that every user may run, not " + h.Binary
	}
	if nobodysPython(h) == "" {
		return "needs a Python that every user may run"
	}
	return ""
}
