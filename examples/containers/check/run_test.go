package check

import (
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/kubernetes/pkg/apis/core"
)

// TestTheImageRuns builds the image by its Dockerfile and runs it as a container runtime would, alone and as a sidecar.
func TestTheImageRuns(t *testing.T) {
	l := newLane(t)
	root := l.build(dockerfile)
	image := imageOf(t, read(t, dockerfile)).Config
	uid, gid, _ := strings.Cut(image.User, ":")
	u := user{uid: number(t, uid), gid: number(t, gid)}
	alone := func(t *testing.T) *container {
		t.Helper()
		mine := *l
		mine.t = t
		c := &container{lane: &mine, root: mine.root(path.Base(t.Name()), root), user: u, env: image.Env, workdir: image.WorkingDir}
		c.start(slices.Concat(image.Entrypoint, image.Cmd)...)
		c.awaitHealthy(image.Healthcheck.Test[1:])
		return c
	}
	t.Run("serves", func(t *testing.T) { serves(t, alone(t)) })
	t.Run("adopts strangers", func(t *testing.T) { adopts(t, alone(t)) })
	t.Run("drains", func(t *testing.T) { drains(t, alone(t)) })
	t.Run("tells of the agent's death", func(t *testing.T) {
		c := alone(t)
		signal(t, c.status().Agent.PID.pid(c), syscall.SIGKILL)
		if code := c.exit(); code != 70 {
			t.Errorf("exit code %d", code)
		}
	})
	t.Run("as a sidecar", func(t *testing.T) {
		mine := *l
		mine.t = t
		runPod(t, &mine, mine.root("pod", root), image.Env, image.WorkingDir, image.Entrypoint)
	})
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}

// agentStatus is what `status --json` says, with pids of the container's namespace.
type agentStatus struct {
	Agent struct {
		PID  insidePID
		Tier string
	} `json:"agent"`
	Pools []struct {
		Ready   int
		Workers []struct{ PID insidePID }
	}
}

// insidePID is a pid of the container's own namespace.
type insidePID int

// pid is the same process as seen from here.
func (inside insidePID) pid(c *container) int {
	c.t.Helper()
	for _, pid := range c.processes() {
		for line := range strings.Lines(statusText(pid)) {
			if fields := strings.Fields(line); fields[0] == "NSpid:" && fields[len(fields)-1] == strconv.Itoa(int(inside)) {
				return pid
			}
		}
	}
	c.t.Fatalf("no process of the container has pid %d there", inside)
	return 0
}

func (c *container) status() (s agentStatus) {
	c.t.Helper()
	r := c.exec(c.user, "pitboss", "status", "--json")
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil || r.code != 0 {
		c.t.Fatalf("%v %+v", err, r)
	}
	return s
}

// serves: calls are answered, and every process of the container is the unprivileged user's.
func serves(t *testing.T, c *container) {
	c.exec(c.user, "pitboss", "call", "stretch", "password=x", "seconds=0.01").want(t, 0, `"rounds"`)
	st := c.status()
	if st.Agent.Tier != "tree" || st.Agent.PID == 1 || len(st.Pools) != 1 || len(st.Pools[0].Workers) != 2 {
		t.Errorf("%+v", st)
	}
	pids := c.processes()
	if len(pids) < 8 { // process 1, watchdog, agent, launcher, and two workers with their keepers
		t.Errorf("only %d processes are seen", len(pids))
	}
	for _, pid := range pids {
		text := statusText(pid)
		for _, want := range []string{"\nUid:\t10001\t10001\t10001\t10001\n", "\nCapEff:\t0000000000000000\n", "\nNoNewPrivs:\t1\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("process %d has not %q:\n%s", pid, want, text)
			}
		}
	}
	signal(t, c.first, syscall.SIGTERM)
	if code := c.exit(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, c.log())
	}
}

// adopts: an orphan, as of `docker exec`, lives on under process 1 when the agent has ended its own tree of a worker, and is reaped.
func adopts(t *testing.T, c *container) {
	c.exec(c.user, "sh", "-c", "sleep 600 >/dev/null 2>&1 & exec true").want(t, 0)
	stranger := c.await("there: the stranger", func() int { return c.named("sleep\x00600") })
	c.await("the stranger's parent", func() int { return truth(strings.Contains(statusText(stranger), "PPid:\t"+strconv.Itoa(c.first)+"\n")) })
	worker := c.status().Pools[0].Workers[0].PID.pid(c)
	signal(t, worker, syscall.SIGKILL)
	c.await("rid of the worker", func() int { return truth(!slices.Contains(c.processes(), worker)) })
	if !slices.Contains(c.processes(), stranger) {
		t.Error("the stranger is gone with the worker")
	}
	signal(t, stranger, syscall.SIGTERM)
	c.await("rid of the stranger", func() int { return truth(!slices.Contains(c.processes(), stranger)) })
}

// drains: a call that runs when the runtime stops the container comes to its end, and everything else to its own: the agent says
// that nothing is left before process 1 ends and the kernel kills the namespace.
func drains(t *testing.T, c *container) {
	call, out, errs := c.prepare(c.user, "pitboss", "call", "stretch", "password=x", "seconds=2")
	must(t, call.Start())
	c.await("running the call", func() int {
		return truth(strings.Contains(c.exec(c.user, "pitboss", "calls").stdout, "stretch"))
	})
	signal(t, c.first, syscall.SIGTERM)
	if err := call.Wait(); err != nil || !strings.Contains(out.String(), `"rounds"`) {
		t.Errorf("the call ended with %v: %s %s", err, out, errs)
	}
	if code := c.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if log := c.log(); !strings.Contains(log, "every worker and launcher is gone") {
		t.Errorf("the log says nothing of the end:\n%s", log)
	}
}

// runPod runs the manifest's two containers as a kubelet would: users, groups, read-only roots, volumes, probes, one after the other.
func runPod(t *testing.T, l *lane, root string, env []string, workdir string, entrypoint []string) {
	spec, pitboss, application, config := sidecar(t)
	group := int(*spec.SecurityContext.FSGroup)
	volumes := map[string]string{}
	for _, v := range spec.Volumes {
		volumes[v.Name] = l.dir + "/volume-" + v.Name
		if v.EmptyDir == nil {
			l.sh(`mkdir "$1"; printf %s "$2" > "$1/pitboss.yaml"; chgrp -R "$3" "$1"; chmod 2750 "$1"`, volumes[v.Name], config, strconv.Itoa(group))
			continue
		}
		l.sh(`mkdir "$1"; chgrp "$2" "$1"; chmod 2777 "$1"`, volumes[v.Name], strconv.Itoa(group))
	}
	of := func(spec core.Container) *container {
		c := &container{lane: l, root: root, env: slices.Clone(env), workdir: workdir, readOnly: *spec.SecurityContext.ReadOnlyRootFilesystem, volumes: map[string]string{},
			user: user{int(*spec.SecurityContext.RunAsUser), int(*spec.SecurityContext.RunAsGroup), []int{group}}}
		for _, v := range spec.Env {
			c.env = append(c.env, v.Name+"="+v.Value)
		}
		for _, m := range spec.VolumeMounts {
			l.sh(`mkdir -p "$1"`, root+m.MountPath) // the runtime makes mount points
			c.volumes[m.MountPath] = volumes[m.Name]
		}
		return c
	}
	side := of(pitboss)
	side.start(slices.Concat(entrypoint, pitboss.Args)...)
	side.awaitHealthy(pitboss.StartupProbe.Exec.Command)
	for _, probe := range []*core.Probe{pitboss.ReadinessProbe, pitboss.LivenessProbe} {
		begun := time.Now()
		side.exec(side.user, probe.Exec.Command...).want(t, 0)
		if took, limit := time.Since(begun), time.Duration(probe.TimeoutSeconds)*time.Second; took > limit {
			t.Errorf("%q took %s, the kubelet waits for %s", probe.Exec.Command, took, limit)
		}
	}
	if r := side.exec(side.user, "touch", "/etc/x"); r.code == 0 || !strings.Contains(r.stderr, "Read-only file system") {
		t.Errorf("the root of the sidecar can be written: %+v", r) // the instrument's own control
	}

	app := of(application)
	app.start("sleep", "600")
	app.exec(app.user, "pitboss", "call", "stretch", "password=x", "seconds=0.01").want(t, 0, `"rounds"`)
	app.exec(app.user, "pitboss", "wait", "--timeout", "5s").want(t, 0)
	app.exec(app.user, "pitboss", "stop").want(t, 77, "PERMISSION_DENIED", "Stop needs the role admin, and user 10002 is client")
	app.exec(user{uid: 10003, gid: 10003}, "pitboss", "call", "stretch", "password=x").want(t, 77, "permission denied", `join group "10000"`)

	signal(t, side.first, syscall.SIGTERM)
	if code := side.exit(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, side.log())
	}
	app.exec(app.user, "pitboss", "status").want(t, 69)
}
