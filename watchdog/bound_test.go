package watchdog

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childPID is the pid that the n-th child of this kind has reported.
func (tr *tree) childPID(kind string, n int) int {
	tr.t.Helper()
	fields := strings.Fields(tr.stdout.wait(tr.t, "child "+kind+" up", n))
	pid, err := strconv.Atoi(fields[len(fields)-1])
	if err != nil {
		tr.t.Fatal(err)
	}
	return pid
}

// exitLeaving is exit for a tree of which some processes cannot be ended.
func (tr *tree) exitLeaving(left int) {
	tr.t.Helper()
	tr.exitCode(exitInternal)
	if all := tr.alive(); len(all) != left {
		tr.t.Errorf("%v are left, want %d", all, left)
	}
}

// A child that a tracer holds in its death does not end by KILL. The wait for it has an end, and the certificate says who, in which
// state, by whom and where in the kernel.
func TestAChildThatCannotDieIsNamed(t *testing.T) {
	s := beating()
	s.Children = []string{"setsid", "plain"}
	tr := startTree(t, s, options{})
	tr.ready(2)
	held := tr.childPID("setsid", 1)
	tracer := startTracer(t, "exit", held)
	if err := tracer.Process.Signal(syscall.SIGSTOP); err != nil { // it will never let go
		t.Fatal(err)
	}
	start := time.Now()
	tr.signalAgent(syscall.SIGKILL)
	tr.exitLeaving(1)
	if took, bound := time.Since(start), s.Grace+ladderSlack+killBound; took < killBound || took > bound+5*time.Second {
		t.Errorf("gave up after %v, want %v", took, bound)
	}
	d := tr.certificate()
	if d.Count != 1 || len(d.Survivors) != 1 || d.Proof != "none" || d.Killed != 2 {
		t.Fatalf("certificate %+v", d)
	}
	if one := d.Survivors[0]; one.PID != held || one.State != "t" || one.Tracer != tracer.Process.Pid || one.Wchan == "" || one.Errno != 0 {
		t.Errorf("survivor %+v, want pid %d in state t, traced by %d", one, held, tracer.Process.Pid)
	}
	_ = tracer.Process.Kill()
	tr.nobodyLeft()
}

// The agent itself may be the one that cannot die: what it guarded is then reached by pidfd, and both are named.
func TestAnAgentThatCannotDieIsNamed(t *testing.T) {
	s := stubborn()
	s.Children, s.GuardChildren = []string{"setsid"}, true
	tr := startTree(t, s, options{flags: []string{"--stop-timeout", "200ms"}})
	tr.ready(1)
	tr.stdout.wait(t, "guarded child", 1)
	tracer := startTracer(t, "exit", tr.agent)
	if err := tracer.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	tr.signal(syscall.SIGTERM)
	tr.exitLeaving(1)
	d := tr.certificate()
	if d.Cause != "stop timeout" || d.Count != 1 || len(d.Survivors) != 1 || d.Survivors[0].PID != tr.agent || d.Survivors[0].State != "t" || d.Guarded != 1 || d.Killed < 1 {
		t.Errorf("certificate %+v", d)
	}
	_ = tracer.Process.Kill()
	tr.nobodyLeft()
}

// A tracer that does not wait keeps the status of a dead agent from its parent. The agent is dead all the same: its tree is cleaned
// up at once, without a busy loop, and the zombie is named.
func TestADeadAgentThatATracerKeeps(t *testing.T) {
	s := beating()
	s.Children = kinds()
	tr := startTree(t, s, options{flags: []string{"--agent-timeout", "1h"}})
	tr.ready(kindsOfEscape)
	tracer := startTracer(t, "zombie", tr.agent)
	if err := tracer.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	tr.signalAgent(syscall.SIGKILL)
	tr.exitLeaving(0)
	usage := tr.cmd.ProcessState
	if cpu := usage.UserTime() + usage.SystemTime(); cpu > time.Second {
		t.Errorf("the watchdog used %v of processor time", cpu)
	}
	d := tr.certificate()
	if d.Count != 1 || len(d.Survivors) != 1 || d.Survivors[0].PID != tr.agent || d.Survivors[0].State != "Z" || d.Survivors[0].Tracer != tracer.Process.Pid || d.Cause != "unknown" {
		t.Errorf("certificate %+v", d)
	}
}

// A child that became root under a watchdog that is not: the refusal of the kernel is in the certificate.
func TestAKillThatIsNotPermittedIsReported(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a setuid program")
	}
	const nobody = 65534
	dir, err := os.MkdirTemp("", "setuid")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	agent, dog, root := dir+"/agent", dir+"/dog", dir+"/root"
	copyProgram(t, os.Args[0], agent, 0o755)
	copyProgram(t, binary, dog, 0o755)
	copyProgram(t, os.Args[0], root, 0o755|os.ModeSetuid)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	runtime := filepath.Join(dir, "run")
	if err := os.Mkdir(runtime, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(runtime, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	s := beating()
	s.Children = []string{"root", "plain"}
	command := agentCommand(s)
	command[0] = agent
	tr := startCommand(t, append([]string{dog, "--runtime-dir", runtime, "--"}, command...), options{bare: true,
		env: []string{rootEnv + "=" + root}, attr: &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}})
	tr.dir = runtime
	tr.ready(2)
	pid := tr.childPID("root", 1)
	tr.signalAgent(syscall.SIGKILL)
	tr.exitLeaving(1)
	d := tr.certificate()
	if d.Count != 1 || len(d.Survivors) != 1 || d.Survivors[0].PID != pid || d.Survivors[0].Errno != int(syscall.EPERM) || d.Proof != "none" {
		t.Errorf("certificate %+v, want %d with EPERM", d, pid)
	}
}

func copyProgram(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	r, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = io.Copy(w, r); err == nil {
		err = w.Close()
	}
	if err == nil {
		err = os.Chmod(to, mode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The kill path opens nothing: a watchdog that has no descriptor left refuses what is new, and still kills everybody.
func TestOutOfDescriptors(t *testing.T) {
	const allowed = 40
	s := beating()
	s.Children, s.Guards = kinds(), allowed+10
	tr := startTree(t, s, options{shell: "ulimit -n " + strconv.Itoa(allowed) + `; exec "$@"`})
	tr.ready(kindsOfEscape)
	refused := tr.stdout.wait(t, "NACK", 1)
	if !strings.HasPrefix(refused, "guard ") || !strings.Contains(refused, "NACK 24 ") {
		t.Errorf("refused with %q, want EMFILE", refused)
	}
	if n := descriptors(t, tr.cmd.Process.Pid); n < allowed { // one with a higher number may have been inherited
		t.Errorf("only %d descriptors are open of %d", n, allowed)
	}
	tr.signalAgent(syscall.SIGKILL)
	tr.exit(70)
	if d := tr.certificate(); d.Killed != kindsOfEscape || d.Count != 0 || d.Proof != "ECHILD" {
		t.Errorf("certificate %+v", d)
	}
}

// Without a descriptor to spare it can still tell a stopped agent from a hanging one.
func TestOutOfDescriptorsItStillJudges(t *testing.T) {
	s := beating()
	s.Guards = 60
	tr := startTree(t, s, options{flags: quick().flags, shell: `ulimit -n 40; exec "$@"`})
	tr.ready(1)
	tr.stdout.wait(t, "NACK 24 ", 1)
	tr.signalAgent(syscall.SIGSTOP)
	tr.silentFor("stopped")
	tr.signalAgent(syscall.SIGCONT)
	tr.revives()
}

// A tree that forks, changes its session and exits as fast as it can.
func TestARunawayIsCaught(t *testing.T) {
	s := beating()
	s.Children = []string{"bomb", "bomb", "bomb"}
	tr := startTree(t, s, options{})
	tr.ready(3)
	tr.signalAgent(syscall.SIGKILL)
	tr.exit(70)
	if d := tr.certificate(); d.Killed < 3 || d.Count != 0 || d.Proof != "ECHILD" {
		t.Errorf("certificate %+v", d)
	}
}

// A process in a pool's cgroup belongs to the pool, also when it descends from somebody else; the proof wants it gone too.
func TestACgroupIsEmptied(t *testing.T) {
	dir := newCgroup(t)
	s := beating()
	s.Pool, s.Children = dir, kinds()
	tr := startTree(t, s, options{})
	tr.ready(kindsOfEscape)
	strangers := []*tree{
		startCommand(t, []string{"sleep", "600"}, options{bare: true}),
		startCommand(t, []string{os.Args[0], "role=child", "bomb"}, options{bare: true, cgroup: dir}),
	}
	writeFile(t, dir+"/cgroup.procs", strconv.Itoa(strangers[0].cmd.Process.Pid))
	strangers[1].stdout.wait(t, "bomb up", 1)
	tr.signalAgent(syscall.SIGKILL)
	tr.exit(70)
	for _, s := range strangers {
		<-s.done
		if left := s.alive(); len(left) > 0 {
			t.Errorf("%v of the pool's cgroup are left", left)
		}
	}
	if d := tr.certificate(); d.Tier != "cgroup" || d.Proof != "ECHILD+populated 0" || d.Count != 0 {
		t.Errorf("certificate %+v", d)
	}
}

// Strangers in a cgroup get no TERM from a stop of the agent's own will either: the pool is over.
func TestAVoluntaryEndEmptiesTheCgroup(t *testing.T) {
	dir := newCgroup(t)
	s := beating()
	s.Pool, s.Children = dir, nil
	tr := startTree(t, s, options{})
	tr.ready(0)
	stranger := startCommand(t, []string{"sleep", "600"}, options{bare: true, cgroup: dir})
	tr.signal(syscall.SIGTERM)
	tr.exit(0)
	<-stranger.done
	if !stranger.cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
		t.Error("the stranger ended by itself")
	}
}
