package chaos

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
	"golang.org/x/sys/unix"
)

// somebody is whom the processes of these scenarios try to become; it needs no entry in passwd.
const somebody = 65533

// credentialScenarios are about processes whose user is not that of their guardian.
func credentialScenarios() []Scenario {
	return []Scenario{
		{Name: "setuid-exec", What: "tools of an unprivileged agent run a setuid program, and one with file capabilities, that change their user; the worker ends",
			Expect: "no_new_privs leaves them their user: all gone; without it the same programs do change", Rounds: 1, Long: 20, Waits: true, Cannot: cannotBeNobody, Run: setuidExec},
		{Name: "credential-change", What: "a worker's child becomes another user's below an agent that may not kill it; worker, launcher and agent end in turn",
			Expect: "the refusal is told with pid and errno at each level, nothing waits for it, everything else is gone", Rounds: 1, Long: 10, Waits: true, Cannot: needsSetpriv, Run: credentialChange},
		{Name: "credential-change-in-a-cgroup", What: "the same in tier cgroup, where the worker ends",
			Expect: "cgroup.kill ends it", Rounds: 1, Long: 20, Waits: true, Cannot: needsCgroupKill, Run: credentialChangeInCgroup},
	}
}

func needsSetpriv(h *Host) string {
	if _, err := exec.LookPath("setpriv"); err != nil {
		return "needs setpriv(1)"
	}
	return NeedsRoot(h)
}

func needsCgroupKill(h *Host) string {
	if why := needsSetpriv(h); why != "" {
		return why
	}
	if why := NeedsCgroup(h); why != "" {
		return why
	}
	dir := newCgroup(fmt.Sprintf("%016x", rand.Uint64()))
	defer func() { _ = os.Remove(dir) }()
	if _, err := os.Stat(filepath.Join(dir, "cgroup.kill")); err != nil {
		return "needs cgroup.kill (Linux 5.14)"
	}
	return ""
}

// cannotBeNobody: root has to give the programs their privileges, and an unprivileged user has to run the agent.
func cannotBeNobody(h *Host) string {
	if why := needsSetpriv(h); why != "" {
		return why
	}
	if asNobody(exec.Command(h.Binary, "version")).Run() != nil {
		return "needs a pitboss that every user can run, not " + h.Binary
	}
	if nobodysPython(h) == "" {
		return "needs an interpreter that every user can run"
	}
	if privilegedPlace() == "" {
		return "needs a directory that is not mounted nosuid"
	}
	return ""
}

// privilegedPlace is a directory in which setuid and file capabilities count.
func privilegedPlace() string {
	for _, dir := range []string{os.TempDir(), "/var/tmp", "/run"} {
		var fs unix.Statfs_t
		if unix.Statfs(dir, &fs) == nil && fs.Flags&(unix.ST_NOSUID|unix.ST_NOEXEC) == 0 {
			return dir
		}
	}
	return ""
}

// changers makes two copies of setpriv(1): one setuid root, one with CAP_SETUID and CAP_SETGID in its file.
func (r *Round) changers() (paths []string) {
	dir, err := os.MkdirTemp(privilegedPlace(), "pitboss-chaos-"+r.tree.Token)
	r.Must(err)
	r.Cleanup(func() { _ = os.RemoveAll(dir) })
	r.Must(os.Chmod(dir, 0o755))
	source, err := exec.LookPath("setpriv")
	r.Must(err)
	program, err := os.ReadFile(source)
	r.Must(err)
	for _, name := range []string{"setuid", "capable"} {
		path := filepath.Join(dir, name)
		r.Must(os.WriteFile(path, program, 0o755))
		if name == "setuid" {
			r.Must(os.Chmod(path, 0o755|os.ModeSetuid))
		} else { // struct vfs_cap_data of linux/capability.h, revision 2, effective
			data := binary.LittleEndian.AppendUint32(nil, 0x02000001)
			data = binary.LittleEndian.AppendUint32(data, 1<<unix.CAP_SETUID|1<<unix.CAP_SETGID)
			r.Must(unix.Setxattr(path, "security.capability", append(data, make([]byte, 12)...), 0))
		}
		paths = append(paths, path)
	}
	return paths
}

const changerTools = `
import os, signal, subprocess, time
import pitboss

USER = "65533"

@pitboss.tool
def run(programs: list) -> list:
    """The pids of the programs, or of what runs in their place when they may not change their user."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    started = []
    for program in programs:
        words = "%s --reuid=%s --regid=%s --clear-groups sleep 100000 || exec sleep 100000" % (program, USER, USER)
        started.append(subprocess.Popen(["/bin/sh", "-c", words], start_new_session=True).pid)
    return started

@pitboss.tool
def change() -> list:
    """A child of another user's, and one of ours."""
    out, into = os.pipe()
    pids = []
    for user in (int(USER), os.getuid()):
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os.setresuid(user, user, user)
            os.write(into, b"x")
            while True:
                time.sleep(60)
        os.read(out, 1)
        pids.append(pid)
    return pids

@pitboss.tool
def who() -> int:
    return os.getpid()
`

// children calls a tool that returns pids, and pins them.
func (a *kinAgent) children(tool string, args any) (all []*Process) {
	ctx, cancel := a.patient()
	defer cancel()
	encoded, err := client.Encode(args)
	a.Must(err)
	result, err := a.Client().CallRaw(ctx, client.Request{Pool: "default", Tool: tool, Args: encoded})
	a.Must(err)
	var pids []int
	a.Must(json.Unmarshal(result.JSON, &pids))
	for _, pid := range pids {
		all = append(all, a.pin(pid))
	}
	return all
}

// userOf is the real user of a process (proc(5)), −1 when it is gone.
func userOf(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, after, _ := strings.Cut(string(text), "\nUid:\t")
	user := -1
	_, _ = fmt.Sscan(after, &user)
	return user
}

func setuidExec(r *Round) {
	programs := r.changers()
	for _, program := range programs { // the control
		c := asNobody(exec.Command(program, fmt.Sprint("--reuid=", somebody), fmt.Sprint("--regid=", somebody), "--clear-groups", "sleep", "100000"))
		r.Must(c.Start())
		r.Until("change of user by "+program+" without no_new_privs", func() bool { return userOf(c.Process.Pid) == somebody })
		r.Must(c.Process.Kill())
		_ = c.Wait()
	}
	config := "pools: [{name: default, adapter: changer.py, workers: 2, python: " + nobodysPython(r.host) + ", timeouts: {kill: " + grace.String() + ", drain: " + drain.String() + "}}]\n"
	a := &kinAgent{r, r.Start(Options{Config: config, Files: map[string]string{"changer.py": changerTools}, Change: func(c *exec.Cmd) {
		r.Must(filepath.WalkDir(r.dir, func(path string, _ fs.DirEntry, err error) error { return os.Chown(path, nobody, nobody) }))
		c.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}})}
	a.Ready()
	changers := a.children("run", map[string]any{"programs": programs})
	for i, p := range changers {
		// Refused, the shell executes sleep itself.
		r.Until("sleep in the place of "+programs[i], func() bool { return programOf(p.PID) == "sleep" && len(ChildrenOf(p.PID)) == 0 })
		if user := userOf(p.PID); user != nobody {
			r.Errorf("%s runs as user %d", programs[i], user)
		}
	}
	a.pin(parentOf(changers[0].PID)).Kill(syscall.SIGKILL)
	for i, p := range changers {
		if !p.Gone(patience) {
			r.survived("%s (%d)", programs[i], p.PID)
		}
	}
	a.Process.Kill(syscall.SIGKILL)
	r.Empty(patience)
}

// startChanging starts an agent that may not signal other users' processes, calls change and kills that worker.
func startChanging(r *Round, o Options) (a *kinAgent, other, own *Process) {
	o.Config = "pools: [{name: default, adapter: changer.py, workers: 2, timeouts: {kill: " + grace.String() + ", drain: " + drain.String() + "}}]\n"
	o.Files = map[string]string{"changer.py": changerTools}
	o.Change = func(c *exec.Cmd) {
		setpriv, err := exec.LookPath("setpriv")
		r.Must(err)
		c.Args = append([]string{setpriv, "--bounding-set=-kill", c.Path}, c.Args[1:]...)
		c.Path = setpriv
	}
	a = &kinAgent{r, r.Start(o)}
	a.Ready()
	both := a.children("change", map[string]any{})
	other, own = both[0], both[1]
	r.Cleanup(func() { other.Kill(syscall.SIGKILL) })
	if user := userOf(other.PID); user != somebody {
		r.Fatalf("process %d is user %d's", other.PID, user)
	}
	a.pin(parentOf(other.PID)).Kill(syscall.SIGKILL)
	if !own.Gone(patience) {
		r.survived("the child that kept its user (%d)", own.PID)
	}
	return a, other, own
}

// wantEvent waits for an event whose fields have all these texts.
func (a *kinAgent) wantEvent(name string, texts ...string) {
	a.Until("event "+name, func() bool {
		ctx, cancel := a.patient()
		defer cancel()
		found := false
		err := a.Client().Events(ctx, "", false, func(e client.Event) error {
			line, err := json.Marshal(e)
			found = found || e.Name == name && !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(string(line), text) })
			return err
		})
		a.Must(err)
		return found
	})
}

func credentialChange(r *Round) {
	a, other, _ := startChanging(r, Options{})
	const refused = "operation not permitted"
	pid := itoa(other.PID)
	a.wantEvent("cleanup.denied", pid, refused)
	a.wantEvent("cleanup.survivor", pid, refused)
	a.wantEvent("cleanup.completed", pid+" (cannot send KILL: "+refused, `none`)
	ctx, cancel := a.patient()
	defer cancel()
	if _, err := a.Client().RestartPool(ctx, "default"); err != nil {
		r.Errorf("a restart beside it: %v", err)
	}
	launcher := a.launcher("default")
	launcher.Kill(syscall.SIGKILL)
	a.wantEvent("agent.stray_left", pid, refused)
	r.Until("new launcher", func() bool { return launcher.Gone(0) && a.readyWorkers("default") == 2 })
	if _, err := a.callTool("default", "who", patience); err != nil {
		r.Errorf("a call beside it: %v", err)
	}
	killed := time.Now()
	a.Process.Kill(syscall.SIGKILL)
	if code := a.ExitCode(); code != 70 {
		r.Errorf("exit code %d", code)
	}
	r.Note("the certificate came %s after SIGKILL of the agent", time.Since(killed).Round(time.Millisecond))
	for _, text := range []string{`"survivor_count":1`, `{"pid":` + pid + `,`, `"errno":1}`, `"proof":"none"`} {
		if !strings.Contains(a.Log(), text) {
			r.Errorf("the certificate has no %s%s", text, r.logs())
		}
	}
	if other.Gone(0) {
		r.Errorf("it is gone: the round does not show what it should")
	}
	other.Kill(syscall.SIGKILL)
	r.Empty(patience)
}

func credentialChangeInCgroup(r *Round) {
	a, other, _ := startChanging(r, Options{Env: []string{"PITBOSS_CGROUP=delegated"}})
	if !other.Gone(patience) {
		r.survived("the child that has changed its user (%d)", other.PID)
	}
	a.wantEvent("cleanup.denied", itoa(other.PID))
	a.wantEvent("cleanup.completed", "ECHILD+populated 0")
	if _, err := a.callTool("default", "who", patience); err != nil {
		r.Errorf("a call beside it: %v", err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	r.Must(a.Client().Stop(ctx, "the round ends"))
	r.Until("end of the agent", a.Agent.over)
	r.Empty(patience)
}
