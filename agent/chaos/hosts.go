package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// optional are the features that the agent, the watchdog, Go and CPython use where they are there, and do without where they are not.
var optional = []string{"clone3", "clone:CLONE_PIDFD", "close_range", "epoll_pwait2", "faccessat2", "getrandom", "getsockopt:SO_PEERGROUPS",
	"getsockopt:SO_PEERPIDFD", "inotify_init1", "io_uring_setup", "madvise", "membarrier", "memfd_create", "openat2", "pidfd_getfd",
	"pidfd_send_signal:group", "prctl:PR_SET_NAME", "process_vm_readv", "ptrace", "rseq", "sched_getaffinity", "statx"}

// required are those without which an agent refuses to start, and what its refusal names.
var required = map[string]string{
	"pidfd_open":                   "no pidfd_open (Linux 5.3)",
	"pidfd_send_signal":            "no pidfd_send_signal (Linux 5.1)",
	"waitid:P_PIDFD":               "no waitid(P_PIDFD) (Linux 5.4)",
	"prctl:PR_SET_CHILD_SUBREAPER": "no prctl(PR_SET_CHILD_SUBREAPER) (Linux 3.4)",
	"prctl:PR_SET_PDEATHSIG":       "no prctl(PR_SET_PDEATHSIG) (Linux 2.1.57)",
}

// named is what doctor calls the features that it tries.
var named = map[string]string{
	"clone3": "clone3", "close_range": "close_range", "memfd_create": "memfd_create", "getsockopt:SO_PEERGROUPS": "SO_PEERGROUPS",
	"getsockopt:SO_PEERPIDFD": "SO_PEERPIDFD", "pidfd_send_signal:group": "group signals by pidfd",
	"file:/children": "lists of children in /proc", "file:/boot_id": "boot id", "file:/schedstat": "schedstat in /proc",
}

const (
	coreExpect  = "calls are answered, a dead worker's escapees and nobody else's go, the agent's death leaves nothing"
	delegatedBy = "PITBOSS_CGROUP=delegated"
)

// hostScenarios run one and the same core on kernels and hosts that lack something.
func hostScenarios() []Scenario {
	return slices.Concat(kernelScenarios(), cgroupScenarios(), containerScenarios())
}

// kernelScenarios take features of the kernel away by a seccomp filter: each for itself in the long form, together in both.
func kernelScenarios() []Scenario {
	lesser := func(features ...string) func(*Round) {
		h := strangeHost{before: func(r *Round) []string { return Lesser(r.host.Binary, features...) }, tier: "tree"}
		for _, feature := range features {
			if strings.HasPrefix(feature, "file:") { // a listener stays the parent
				h.ends = syscall.SIGTERM
			}
			if name := named[strings.TrimSuffix(feature, "=EPERM")]; name != "" {
				h.lacks = append(h.lacks, name)
			}
		}
		return h.run
	}
	all := []Scenario{
		{Name: "old-kernel", What: "every optional system call answers ENOSYS, and /proc has no lists of children, boot id or schedstat", Expect: coreExpect,
			Rounds: 1, Long: 10, Waits: true, Run: lesser(append(slices.Clone(optional), "file:/children", "file:/boot_id", "file:/schedstat")...)},
		{Name: "strict-sandbox", What: "every optional system call is refused with EPERM, as old container runtimes do", Expect: coreExpect,
			Rounds: 1, Long: 10, Waits: true, Run: lesser(refusedWithEPERM()...)},
		{Name: "kernel-refused", What: "each required system call is taken away, then /proc", Expect: "the agent refuses to start and names what is missing; exit code 78",
			Rounds: 1, Waits: true, Run: kernelRefused},
		{Name: "no-children-lists", What: "/proc has no lists of children (CONFIG_PROC_CHILDREN, gVisor)", Expect: coreExpect,
			Rounds: 1, Long: 10, Waits: true, Run: lesser("file:/children")},
	}
	for _, feature := range optional {
		name := strings.NewReplacer("_", "-", ":", "-").Replace(strings.ToLower(feature))
		all = append(all, Scenario{Name: "without-" + name, What: "the kernel refuses " + feature, Expect: coreExpect, Long: 3, Waits: true, Run: lesser(feature)})
	}
	return all
}

// refusedWithEPERM leaves out two: the C library starts no thread when clone3 says EPERM, and Go aborts when getrandom does.
func refusedWithEPERM() []string {
	var all []string
	for _, feature := range optional {
		if feature != "clone3" && feature != "getrandom" {
			all = append(all, feature+"=EPERM")
		}
	}
	return all
}

func kernelRefused(r *Round) {
	r.Write("guest.py", guest)
	r.Write("agent.yaml", "pools: [{name: default, adapter: guest.py, workers: 1}]\n")
	refused := func(before []string, want string) {
		code, said := r.pitboss(before, nil, "agent", "--config", r.File("agent.yaml"), "--socket", r.File("s"), "--runtime-dir", r.File("run"))
		if code != 78 || !strings.Contains(said, "cannot run on this kernel: ") || !strings.Contains(said, want) {
			r.Errorf("%v: exit code %d, want 78 and %q:\n%s", before, code, want, said)
		}
	}
	for feature, want := range required {
		refused(Lesser(r.host.Binary, feature), want)
		refused(Lesser(r.host.Binary, feature+"=EPERM"), want)
	}
	if needsMounts(r.host) == "" {
		refused(mounted(r.host, "mount -t tmpfs none /proc"), "no proc file system (Linux 1.0)")
	}
	r.Empty(limit)
}

// cgroupScenarios arrange what a host may have under /sys/fs/cgroup. A pure v2 with controllers is a machine's own: packaging/test/vm.
func cgroupScenarios() []Scenario {
	row := func(name, what string, cannot func(*Host) string, h strangeHost) Scenario {
		h.env = append(h.env, delegatedBy)
		return Scenario{Name: name, What: what, Expect: coreExpect + "; the tier and its reason are named, a demand for cgroup is refused", Rounds: 1, Long: 5,
			Waits: true, Cannot: cannot, Run: h.run}
	}
	const unified = "/sys/fs/cgroup/unified"
	overlaid := func(script string) func(*Round) []string {
		return func(r *Round) []string { return mounted(r.host, script) }
	}
	return []Scenario{
		row("cgroup-delegated", "the agent's own cgroup v2 is its to divide", NeedsCgroup, strangeHost{tier: "cgroup"}),
		row("cgroup-without-kill", "the same, and no cgroup.kill (before Linux 5.14)", NeedsCgroup, strangeHost{tier: "tree", reason: "no cgroup.kill (Linux 5.14)", ends: syscall.SIGTERM,
			before: func(r *Round) []string { return Lesser(r.host.Binary, "file:/cgroup.kill") }}),
		row("cgroup-read-only", "the same, mounted read-only as in most containers", needs(NeedsCgroup, needsMounts), strangeHost{tier: "tree", reason: "read-only file system",
			before: func(r *Round) []string {
				mount := strings.TrimSuffix(filepath.Dir(r.tree.Cgroup), "/")
				return mounted(r.host, fmt.Sprintf("mount --bind %[1]s %[1]s && mount -o remount,bind,ro %[1]s", mount))
			}}),
		row("cgroup-v1-only", "only v1 hierarchies are mounted", needs(needsMounts, func(h *Host) string {
			if _, err := os.Stat(unified); err != nil {
				return "needs a hybrid hierarchy, to take the v2 half away"
			}
			return ""
		}), strangeHost{tier: "tree", reason: "cgroup v2 is not mounted", before: overlaid("mount -t tmpfs none " + unified)}),
		row("cgroup-not-mounted", "nothing is mounted at /sys/fs/cgroup", needsMounts, strangeHost{tier: "tree", reason: "cgroup v2 is not mounted",
			before: overlaid("mount -t tmpfs none /sys/fs/cgroup")}),
		row("no-sys", "there is no /sys", needsMounts, strangeHost{tier: "tree", reason: "cgroup v2 is not mounted", before: overlaid("mount -t tmpfs none /sys")}),
	}
}

// needs is a Scenario.Cannot of several.
func needs(all ...func(*Host) string) func(*Host) string {
	return func(h *Host) string {
		for _, f := range all {
			if why := f(h); why != "" {
				return why
			}
		}
		return ""
	}
}

// newPID are the flags of unshare(1) for a pid namespace whose end is unshare's.
var newPID = []string{"-pf", "--kill-child"}

// namespace is unshare(1) with these namespaces: as root directly, as anybody else in a user namespace, where that is allowed.
func namespace(h *Host, flags ...string) []string {
	words := []string{"unshare"}
	if !h.Root {
		words = append(words, "-Ur")
	}
	return append(words, flags...)
}

// mounted runs a script of mounts in a mount namespace of its own before the command.
func mounted(h *Host, script string) []string {
	return append(namespace(h, "-m", "--propagation", "private"), "sh", "-c", script+` && exec "$@"`, "sh")
}

// tries says why words cannot be put before a command here.
func tries(words []string, need string) string {
	c := exec.Command(words[0], append(words[1:], "true")...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if out, err := c.CombinedOutput(); err != nil {
		text := firstLine(string(out))
		if text == "" {
			text = err.Error()
		}
		return need + ": " + text
	}
	return ""
}

func needsMounts(h *Host) string {
	return tries(mounted(h, "true"), "needs a mount namespace (root, or user namespaces for everybody)")
}

func needsPIDNamespace(h *Host) string {
	return tries(namespace(h, append(newPID, "--mount-proc")...), "needs a pid namespace (root, or user namespaces for everybody)")
}
