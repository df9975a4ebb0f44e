package check

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for an event; it is long because the machine may be shared.
const patience = 60 * time.Second

// user is who a container's processes are.
type user struct {
	uid, gid int
	groups   []int
}

// container is what a runtime makes of an image: a pid and a mount namespace, an unprivileged user, no capability.
type container struct {
	*lane
	root     string
	user     user
	env      []string
	workdir  string
	readOnly bool
	volumes  map[string]string // by where they are mounted; a directory of the lane

	cmd    *exec.Cmd
	first  int // pid of its process 1, as seen from here
	stderr *os.File
	done   chan struct{}
}

// start runs the container until the test ends, at the latest.
func (c *container) start(args ...string) {
	c.t.Helper()
	script := `mount -t proc proc "$1/proc"; `
	if c.readOnly {
		script += `mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; mount --rbind /dev "$1/dev"; mount -t proc proc "$1/proc"; `
	}
	for at, volume := range c.volumes {
		script += `mount --bind '` + volume + `' "$1` + at + `"; `
	}
	script += `root=$1; shift; exec chroot "$root" "$@"`
	c.cmd = c.command(slices.Concat([]string{"unshare", "--pid", "--mount", "--propagation", "private", "--fork", "--kill-child", "sh", "-euc", script, "sh", c.root}, c.as(c.user), args)...)
	var err error
	c.stderr, err = os.CreateTemp(c.t.TempDir(), "stderr")
	must(c.t, err)
	c.cmd.Stderr = c.stderr
	must(c.t, c.cmd.Start())
	c.done = make(chan struct{})
	go func() { _ = c.cmd.Wait(); close(c.done) }()
	c.t.Cleanup(func() {
		select {
		case <-c.done:
		default: // unshare has not reaped its child yet, so the pid is still its; and with process 1 its namespace ends
			_ = syscall.Kill(childOf(c.cmd.Process.Pid), syscall.SIGKILL)
			<-c.done
		}
		_ = c.stderr.Close()
	})
	c.first = c.await("started", func() int { return childOf(c.cmd.Process.Pid) })
	c.await("set up", func() int { // it becomes the user last
		return truth(strings.Contains(statusText(c.first), "\nUid:\t"+strconv.Itoa(c.user.uid)+"\t"))
	})
}

// as is the command line that turns root into a user of a container.
func (c *container) as(u user) []string {
	groups := "--clear-groups"
	if len(u.groups) > 0 {
		var list []string
		for _, g := range u.groups {
			list = append(list, strconv.Itoa(g))
		}
		groups = "--groups=" + strings.Join(list, ",")
	}
	return slices.Concat([]string{"setpriv", "--reuid=" + strconv.Itoa(u.uid), "--regid=" + strconv.Itoa(u.gid), groups, "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all",
		"env", "-i", "--chdir=" + c.workdir}, c.env)
}

// result is how a command ended.
type result struct {
	code           int
	stdout, stderr string
}

// exec is `docker exec`, or a probe.
func (c *container) exec(u user, args ...string) result {
	c.t.Helper()
	cmd, out, errs := c.prepare(u, args...)
	must(c.t, cmd.Start())
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait()
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

func (c *container) prepare(u user, args ...string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	cmd = exec.Command("nsenter", slices.Concat([]string{"-t", strconv.Itoa(c.first), "-p", "-m", "--", "chroot", c.root}, c.as(u), args)...)
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, stdout, stderr
}

func (r result) want(t *testing.T, code int, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.stdout+r.stderr, text) {
			t.Errorf("%q is not in %q %q", text, r.stdout, r.stderr)
		}
	}
	if r.code != code {
		t.Errorf("exit code %d, want %d: %q %q", r.code, code, r.stdout, r.stderr)
	}
}

// exit waits for the end of the container and returns its exit code.
func (c *container) exit() int {
	c.t.Helper()
	select {
	case <-c.done:
	case <-time.After(patience):
		c.t.Fatalf("it did not end:\n%s", c.log())
	}
	return c.cmd.ProcessState.ExitCode()
}

func (c *container) log() string { return string(read(c.t, c.stderr.Name())) }

// await polls until get returns something.
func (c *container) await(what string, get func() int) int {
	c.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		if value := get(); value != 0 {
			return value
		}
		select {
		case <-c.done:
			c.t.Fatalf("it ended with %d and is not %s:\n%s", c.cmd.ProcessState.ExitCode(), what, c.log())
		default:
		}
	}
	c.t.Fatalf("it is not %s within %s:\n%s", what, patience, c.log())
	return 0
}

func (c *container) awaitHealthy(probe []string) {
	c.t.Helper()
	c.await("healthy", func() int { return truth(c.exec(c.user, probe...).code == 0) })
}

func truth(is bool) int {
	if is {
		return 1
	}
	return 0
}

// processes are those of the container's pid namespace, zombies too, by the kernel's word.
func (c *container) processes() (pids []int) {
	own, err := os.Readlink("/proc/" + strconv.Itoa(c.first) + "/ns/pid")
	if err != nil {
		return nil
	}
	links, _ := filepath.Glob("/proc/[0-9]*/ns/pid")
	for _, link := range links {
		if ns, err := os.Readlink(link); err == nil && ns == own {
			pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

// named is the process of the container whose command line contains text; 0 when there is none.
func (c *container) named(text string) int {
	for _, pid := range c.processes() {
		line, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if strings.Contains(string(line), text) {
			return pid
		}
	}
	return 0
}

// childOf is a child of a process, 0 when it has none.
func childOf(pid int) int {
	lists, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, child := range strings.Fields(string(text)) {
			n, _ := strconv.Atoi(child)
			return n
		}
	}
	return 0
}

// statusText is what the kernel says of a process, empty when it is gone.
func statusText(pid int) string {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	return string(text)
}

func signal(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	must(t, syscall.Kill(pid, s))
}
