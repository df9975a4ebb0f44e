package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/ipc"
)

// diagnosis is what `doctor --json` prints.
type diagnosis struct {
	OK       bool
	Findings []finding
}

// doctor runs it and holds the exit code to the findings.
func (h *host) doctor(args ...string) diagnosis {
	h.t.Helper()
	e := h.pitboss(append([]string{"doctor", "--json"}, args...)...)
	return diagnosisOf(h.t, e)
}

func diagnosisOf(t *testing.T, e ended) (d diagnosis) {
	t.Helper()
	if err := json.Unmarshal([]byte(e.stdout), &d); err != nil {
		t.Fatalf("%v: %+v", err, e)
	}
	failed := false
	for _, f := range d.Findings {
		failed = failed || f.Grade == gradeFail
		if f.Fix == "" && f.Grade != gradeOK {
			t.Errorf("no fix: %+v", f)
		}
	}
	if d.OK == failed || (e.code == 1) != failed || (!failed && e.code != 0) {
		t.Errorf("ok is %t, exit code %d: %+v", d.OK, e.code, d.Findings)
	}
	return d
}

// want finds one finding of a check with this grade that holds the text.
func (d diagnosis) want(t *testing.T, check string, g grade, text string) {
	t.Helper()
	for _, f := range d.Findings {
		if f.Check == check && f.Grade == g && strings.Contains(f.Detail+"\n"+f.Output, text) {
			return
		}
	}
	t.Errorf("no %s %s with %q in %+v", check, g, text, d.Findings)
}

// TestDoctorOfAHealthyHost: every check is there and none fails; the text says the same as the JSON.
func TestDoctorOfAHealthyHost(t *testing.T) {
	h := newHost(t)
	d := h.doctor("tools.py")
	for _, check := range []string{"config", "runtime dir", "python", "package", "adapter", "socket", "watchdog", "kernel", "tier", "clock", "disk", "files", "processes"} {
		d.want(t, check, gradeOK, "")
	}
	d.want(t, "adapter", gradeOK, "10 tools (add, count")
	d.want(t, "socket", gradeOK, "no agent there yet")
	d.want(t, "tier", gradeOK, "tree")
	e := h.pitboss("doctor", "tools.py")
	for _, f := range d.Findings {
		if f.Check != "clock" && f.Check != "disk" && !strings.Contains(e.stdout, f.Detail) {
			t.Errorf("the text does not say %q:\n%s", f.Detail, e.stdout)
		}
	}
	s := h.serve(onePool)
	d = h.doctor("--config", "pitboss.yaml")
	d.want(t, "socket", gradeOK, "an agent listens")
	d.want(t, "agent", gradeOK, "tier tree (no cgroup: no cgroup was delegated")
	d.want(t, "config", gradeOK, "pitboss.yaml, 1 pool")
	d.want(t, "adapter", gradeOK, "pool default, "+h.path("tools.py")+": 10 tools")
	h.pitboss("stop").want(t, 0)
	s.exit()
}

// script is a program in this home.
func (h *host) script(name, text string) string {
	h.t.Helper()
	must(h.t, os.WriteFile(h.path(name), []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	return h.path(name)
}

func TestDoctorFindsABrokenInterpreter(t *testing.T) {
	h := newHost(t)
	h.env = append(h.env, "PITBOSS_PYTHON=")
	old := h.script("old", `echo '{"version": "3.8.10", "implementation": "cpython"}'`)
	h.doctor("--python", old).want(t, "python", gradeFail, "is Python 3.8.10: too old")
	other := h.script("other", `echo '{"version": "3.10.1", "implementation": "pypy"}'`)
	h.doctor("--python", other).want(t, "python", gradeWarn, "is pypy 3.10.1")
	h.doctor("--python", "/bin/true").want(t, "python", gradeFail, "instead of what was asked")
	h.doctor("--python", h.script("three", "echo broken >&2; exit 3")).want(t, "python", gradeFail, "exited with code 3\nbroken")
	h.doctor("--python", h.script("hangs", "sleep 600"), "--timeout", "300ms").want(t, "python", gradeFail, "took more than 300ms")
	h.doctor("--python", "/nowhere/python").want(t, "python", gradeFail, `cannot find the interpreter "/nowhere/python"`)
	h.env = append(h.env, "PATH=")
	h.doctor().want(t, "python", gradeFail, "no python3 on the path")
}

func TestDoctorSeesWhichPackageWins(t *testing.T) {
	h := newHost(t)
	must(t, os.MkdirAll(h.path("site/pitboss"), 0o755))
	must(t, os.WriteFile(h.path("site/pitboss/__init__.py"), nil, 0o644))
	h.env = append(h.env, "PYTHONPATH="+h.path("site"))
	d := h.doctor("tools.py")
	d.want(t, "package", gradeWarn, "another copy is installed, "+h.path("site/pitboss/__init__.py"))
	must(t, os.WriteFile(h.path("site/pitboss/__init__.py"), fmt.Appendf(nil, "\"\"\"As installed by pip.\"\"\"\n__version__ = \"%s\"\n", ipc.Version), 0o644))
	h.doctor().want(t, "package", gradeOK, "the same version is installed, "+h.path("site/pitboss/__init__.py"))
	d.want(t, "adapter", gradeOK, "10 tools")
	must(t, os.WriteFile(h.path("site/sitecustomize.py"), []byte("import pitboss\n"), 0o644))
	h.doctor("tools.py").want(t, "package", gradeFail, "workers would import "+h.path("site/pitboss/__init__.py"))
}

func TestDoctorFindsABrokenAdapter(t *testing.T) {
	h := newHost(t)
	for name, c := range map[string]struct{ source, text string }{
		"raises":   {"import pitboss\n\ndef load():\n    raise RuntimeError('no model')\n\nload()\n", "RuntimeError: no model\nTraceback (most recent call last):\n  File \"" + h.path("raises.py") + "\", line 6, in <module>"},
		"missing":  {"import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"},
		"syntax":   {"def f(:\n", "SyntaxError"},
		"empty":    {"x = 1\n", "empty has no tools; mark a function with @pitboss.tool"},
		"hangs":    {"import time\ntime.sleep(600)\n", "its import took more than 3s"},
		"forks":    {"import subprocess, time\nsubprocess.Popen(['sleep', '600'])\ntime.sleep(600)\n", "its import took more than 3s"},
		"segfault": {"import ctypes\nctypes.string_at(0)\n", "its import died by signal 11 (segmentation fault)"},
		"leaves":   {"import os\nos._exit(3)\n", "its import exited with code 3"},
		"silent":   {"import os\nos._exit(0)\n", "instead of what was asked"},
		"exits":    {"raise SystemExit('enough')\n", "SystemExit: enough"},
	} {
		must(t, os.WriteFile(h.path(name+".py"), []byte(c.source), 0o644))
		t.Run(name, func(t *testing.T) {
			h.doctor(name+".py", "--timeout", "3s").want(t, "adapter", gradeFail, c.text)
		})
	}
	h.doctor("nowhere.py").want(t, "adapter", gradeFail, "FileNotFoundError")
	must(t, os.WriteFile(h.path("noisy.py"), []byte("import pitboss\nprint('x' * 300000)\n@pitboss.tool\ndef f(): pass\n"), 0o644))
	h.doctor("noisy.py").want(t, "adapter", gradeOK, "1 tool (f)")
}

func TestDoctorFindsABrokenPlace(t *testing.T) {
	h := newHost(t)
	must(t, os.Mkdir(h.path("pitboss"), 0o700))
	must(t, os.Chmod(h.path("pitboss"), 0o777))
	h.doctor().want(t, "runtime dir", gradeFail, "that nobody else can write")
	must(t, os.Chmod(h.path("pitboss"), 0o700))
	h.env = append(h.env, "XDG_RUNTIME_DIR=/proc/self/fdinfo") // where nobody can make a directory
	d := h.doctor()
	d.want(t, "runtime dir", gradeFail, "cannot create")
	d.want(t, "python", gradeFail, "not checked")
}

func TestDoctorFindsABrokenSocket(t *testing.T) {
	h := newHost(t)
	h.doctor("--socket", h.path(strings.Repeat("x", 120))).want(t, "socket", gradeFail, "the kernel allows 107")
	h.doctor("--socket", h.path("tools.py")).want(t, "socket", gradeFail, "is no socket")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: h.path("stale"), Net: "unix"})
	must(t, err)
	stale.SetUnlinkOnClose(false)
	must(t, stale.Close())
	h.doctor("--socket", h.path("stale")).want(t, "socket", gradeWarn, "nobody listens")

	listener, err := net.Listen("unix", h.path("theirs"))
	must(t, err)
	defer listener.Close()
	must(t, os.Chmod(h.path("theirs"), 0o600))
	must(t, os.Chmod(h.dir, 0o755))
	must(t, os.Mkdir(h.path("home"), 0o700))
	must(t, os.Chown(h.path("home"), 65534, 65534))
	other := h.command("pitboss", "doctor", "--json", "--socket", h.path("theirs"))
	other.Env = append(h.env, "XDG_RUNTIME_DIR="+h.path("home"), "PITBOSS_PYTHON=/usr/bin/python3")
	other.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	d := diagnosisOf(t, h.finish(other))
	d.want(t, "socket", gradeFail, "permission denied")
	d.want(t, "access", gradeFail, "cannot reach the agent at")
}

func TestDoctorFindsABrokenWatchdog(t *testing.T) {
	h := newHost(t)
	for path, text := range map[string]string{
		"/nowhere/watchdog": "cannot find the watchdog; looked for /nowhere/watchdog",
		h.script("older", "echo pitboss-watchdog 0.0.1"): `says "pitboss-watchdog 0.0.1"`,
		h.script("fails", "exit 9"):                      "exited with code 9",
		h.script("stuck", "sleep 600"):                   "took more than 3s",
	} {
		h.env = append(h.env, "PITBOSS_WATCHDOG="+path)
		d := h.doctor("--timeout", "3s")
		d.want(t, "watchdog", gradeFail, text)
		d.want(t, "tier", gradeFail, "none")
	}
	must(t, os.WriteFile(h.path("off.yaml"), []byte("pools: [{name: a, adapter: tools.py, guard: group}]\nwatchdog: {mode: 'off'}\n"), 0o644))
	h.env = append(h.env, "PITBOSS_WATCHDOG=/nowhere/watchdog")
	d := h.doctor("--config", "off.yaml")
	d.want(t, "watchdog", gradeWarn, "watchdog.mode is off")
	d.want(t, "tier", gradeWarn, "group")
}

func TestDoctorFindsABrokenConfiguration(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("bad.yaml"), []byte("pools:\n  - name: a\n    adapter: tools.py\n    wrokers: 2\n"), 0o644))
	d := h.doctor("--config", "bad.yaml")
	d.want(t, "config", gradeFail, "bad.yaml:4:5: pools[0].wrokers")
	d.want(t, "python", gradeOK, "") // the others go on
	if e := h.pitboss("doctor", "--config", "bad.yaml"); !strings.Contains(e.stdout, "FAIL  config") || !strings.Contains(e.stdout, "      | bad.yaml:4:5") || !strings.Contains(e.stdout, "      fix: ") {
		t.Errorf("%s", e.stdout)
	}
	h.doctor("--config", "nowhere.yaml").want(t, "config", gradeFail, "nowhere.yaml")
}

func TestDoctorFindsALowLimit(t *testing.T) {
	h := newHost(t)
	e := h.finish(h.command("sh", "-c", "ulimit -n 60; exec "+filepath.Join(binaries, "pitboss")+" doctor --json"))
	diagnosisOf(t, e).want(t, "files", gradeFail, "the hard limit of open files is 60")
	e = h.finish(h.command("sh", "-c", "ulimit -n 200; exec "+filepath.Join(binaries, "pitboss")+" doctor --json"))
	diagnosisOf(t, e).want(t, "files", gradeWarn, "the hard limit of open files is 200")
}

// TestDoctorOfAStrangeHost puts facts in place that no test can bring about on a real one.
func TestDoctorOfAStrangeHost(t *testing.T) {
	at := func(values ...time.Duration) func() (time.Duration, error) {
		i := -1
		return func() (time.Duration, error) { i++; return values[min(i, len(values)-1)], nil }
	}
	never := errors.New("not implemented")
	big := agent.Config{Pools: []agent.PoolConfig{{Workers: 1000}, {Workers: 1000}}}
	for name, c := range map[string]struct {
		change func(*hostFacts)
		cfg    agent.Config
		check  string
		grade  grade
		text   string
	}{
		"clock back":        {func(h *hostFacts) { h.monotonic = at(9*time.Second, 8*time.Second) }, agent.Config{}, "clock", gradeFail, "it goes back"},
		"boottime behind":   {func(h *hostFacts) { h.boottime = at(time.Second) }, agent.Config{}, "clock", gradeFail, "is behind"},
		"no boottime":       {func(h *hostFacts) { h.boottime = func() (time.Duration, error) { return 0, never } }, agent.Config{}, "clock", gradeFail, "not implemented"},
		"suspended":         {func(h *hostFacts) { h.boottime = at(15 * time.Second) }, agent.Config{}, "clock", gradeOK, "suspended 6s"},
		"full disk":         {func(h *hostFacts) { h.freeBytes = func() (uint64, error) { return 4096, nil } }, agent.Config{}, "disk", gradeFail, "4 KiB free"},
		"nearly full disk":  {func(h *hostFacts) { h.freeBytes = func() (uint64, error) { return 5 << 20, nil } }, agent.Config{}, "disk", gradeWarn, "5 MiB free"},
		"no disk":           {func(h *hostFacts) { h.freeBytes = func() (uint64, error) { return 0, never } }, agent.Config{}, "disk", gradeFail, "not implemented"},
		"few pids":          {func(h *hostFacts) { h.pidMax = 301 }, agent.Config{}, "processes", gradeFail, "kernel.pid_max is 301"},
		"not so many pids":  {func(h *hostFacts) { h.pidMax = 4096 }, agent.Config{}, "processes", gradeWarn, "4096"},
		"pids for workers":  {func(h *hostFacts) { h.pidMax = 4000 }, big, "processes", gradeFail, "2000 workers need 4004"},
		"few processes":     {func(h *hostFacts) { h.processes = 10 }, agent.Config{}, "processes", gradeFail, "the limit of processes is 10"},
		"root has no limit": {func(h *hostFacts) { h.processes, h.root = 10, true }, agent.Config{}, "processes", gradeOK, "kernel.pid_max"},
	} {
		t.Run(name, func(t *testing.T) {
			facts := hostFacts{monotonic: at(9 * time.Second), boottime: at(9 * time.Second), freeBytes: func() (uint64, error) { return 1 << 40, nil },
				nofile: 1024, nofileHard: 4096, pidMax: 4194304, processes: 10000}
			for _, f := range checkHost(facts, agent.Config{}) {
				if f.Grade != gradeOK {
					t.Errorf("a healthy host: %+v", f)
				}
			}
			c.change(&facts)
			diagnosis{Findings: checkHost(facts, c.cfg)}.want(t, c.check, c.grade, c.text)
		})
	}
}

func TestDoctorOfAnOldKernel(t *testing.T) {
	probes := agent.KernelFeatures()
	for i := range probes {
		probes[i].Try = func() error { return syscall.ENOSYS }
	}
	findings := checkKernel(probes)
	if len(findings) != len(probes) {
		t.Fatalf("%d probes, %d findings", len(probes), len(findings))
	}
	for i, f := range findings {
		want := gradeWarn
		if probes[i].Required() {
			want = gradeFail
		}
		if f.Grade != want || f.Fix == "" || !strings.Contains(f.Detail, probes[i].Name) || !strings.Contains(f.Detail, "function not implemented") {
			t.Errorf("%+v", f)
		}
	}
	diagnosis{Findings: []finding{checkTier(agent.Default(), ok("watchdog", ""), findings)}}.want(t, "tier", gradeFail, "no proc file system")
}

func TestDoctorMisused(t *testing.T) {
	h := newHost(t)
	h.pitboss("doctor", "a", "b").want(t, 64, "usage: pitboss doctor [ADAPTER]")
	h.pitboss("doctor", "--timeout", "0s").want(t, 64, "--timeout must be above 0")
	h.pitboss("doctor", "--pyhton", "x").want(t, 64, "did you mean --python?")
}
