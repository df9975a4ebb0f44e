package main

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

const onePool = `
pools:
  - name: default
    adapter: tools.py
    workers: 1
    timeouts: {kill: 300ms, drain: 5s}
    queue: {max: 1, timeout: 400ms}
`

// TestExitCodesOfARun: each code of the documentation that a private agent can end with, and what it tells the user.
func TestExitCodesOfARun(t *testing.T) {
	for _, c := range []struct {
		name  string
		args  string
		code  int
		texts []string
	}{
		{"ok", "run tools.py add a=1 b=2", 0, nil},
		{"tool raised", "run tools.py raises", 1, []string{"tools.py\", line 56, in raises", "TOOL_RAISED: tool \"raises\" raised KeyError: 'no such thing'", "!_worker.py"}},
		{"unknown command", "rnu tools.py", 64, []string{`unknown command "rnu"`, "did you mean `pitboss run`? `pitboss --help` lists the commands"}},
		{"unknown subcommand", "config dance", 64, []string{`unknown command "dance"`, "`pitboss config --help` lists the commands"}},
		{"unknown flag", "run --wrokers 2 tools.py", 64, []string{"unknown flag: --wrokers", "`pitboss run --help` shows its flags"}},
		{"unknown tool", "run tools.py ad", 64, []string{`UNKNOWN_TOOL: pool "default" has no tool "ad"; it has: add, count`, `did you mean "add"?`, "`pitboss run tools.py -- pitboss tools --schema`"}},
		{"missing argument", "run tools.py add a=1", 65, []string{"BAD_ARGUMENTS: tool 'add' needs the parameter 'b' (int)", "`pitboss run tools.py -- pitboss tools --schema`"}},
		{"misspelt argument", "run tools.py size dta=1", 65, []string{"tool 'size' has no parameter 'dta'; it takes data, name; did you mean 'data'?"}},
		{"wrong type", "run tools.py add a=1 b=x", 65, []string{"'b' must be int, not str"}},
		{"bad json", `run tools.py add {"a":1,}`, 65, []string{`the arguments are not JSON: invalid character '}' looking for beginning of object key string at byte 8 of {"a":1,}`, `write an object such as {"a": 1}`}},
		{"no key", "run tools.py add 1", 64, []string{`cannot understand the argument "1"`, "write key=value"}},
		{"missing file", "run tools.py size data=@nowhere", 65, []string{`cannot read the file of argument "data"`, "nowhere"}},
		{"segfault", "run tools.py segfault", 69, []string{"Segmentation fault", "in segfault", "died by SIGSEGV"}},
		{"os._exit", "run tools.py exit_three", 69, []string{"in exit_three", "exited with code 3"}},
		{"timeout", "run --timeout 300ms tools.py nap seconds=60", 75, []string{"CALL_TIMEOUT", "did not end within 300ms", "in nap", "--timeout"}},
		{"no adapter", "run nowhere.py add", 78, []string{`cannot read`, "nowhere.py"}},
		{"no interpreter", "run --python /nowhere/python tools.py add", 78, []string{`cannot find the interpreter "/nowhere/python"`, "name an existing Python"}},
		{"bad setting", "run --workers 100000 tools.py", 78, []string{"workers: 100000 is out of range; it must be between 1 and 1000"}},
		{"no agent", "call add a=1 b=2", 69, []string{"no agent at", "agent.sock", "start one with `pitboss agent`"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			newHost(t).pitboss(strings.Fields(c.args)...).want(t, c.code, c.texts...)
		})
	}
}

func TestAnAdapterThatCannotStart(t *testing.T) {
	h := newHost(t)
	for name, c := range map[string]struct {
		source string
		texts  []string
	}{
		"raises": {"import pitboss\nraise RuntimeError('no model')\n", []string{"POOL_FAILED", "bad.py\", line 2, in <module>", "no model", "mend the adapter and run it again"}},
		"empty":  {"x = 1\n", []string{"POOL_FAILED", "ADAPTER_INVALID", "bad has no tools; mark a function with @pitboss.tool"}},
		"syntax": {"def f(:\n", []string{"POOL_FAILED", "SyntaxError", "bad.py"}},
	} {
		must(t, os.WriteFile(h.path("bad.py"), []byte(c.source), 0o644))
		t.Run(name, func(t *testing.T) { h.pitboss("run", "bad.py", "add").want(t, 69, c.texts...) })
	}
}

func TestAMissingWatchdogIsNamed(t *testing.T) {
	h := newHost(t)
	h.env = append(h.env, "PITBOSS_WATCHDOG=/nowhere/watchdog")
	h.pitboss("run", "tools.py", "add", "a=1", "b=2").want(t, 78, "cannot find the watchdog; looked for /nowhere/watchdog", "run --watchdog=off")
	if left, _ := os.ReadDir(h.path("pitboss")); len(left) != 0 {
		t.Errorf("%v is left in the runtime directory", left)
	}
}

// TestExitCodesOfACall: those that need an agent that stays up.
func TestExitCodesOfACall(t *testing.T) {
	h := newHost(t)
	s := h.serve(onePool)
	h.pitboss("call", "add", "a=1", "b=2").want(t, 0)
	h.pitboss("call", "elsewhere/add").want(t, 64, `UNKNOWN_POOL: no pool is named "elsewhere"; there are: default`)
	h.pitboss("ping", "nobody").want(t, 64, `UNKNOWN_WORKER: no worker is named "nobody"`, "pitboss status")
	st, _ := s.status()
	h.pitboss("ping", st.Pools[0].Workers[0].ID+"x").want(t, 64, `did you mean "`+st.Pools[0].Workers[0].ID+`"?`)
	h.pitboss("call", "defualt/add").want(t, 64, `there are: default; did you mean "default"?`)
	h.pitboss("tools", "--pool", "defalt").want(t, 64, `did you mean "default"?`)
	h.pitboss("run", "--wrokers", "2", "tools.py").want(t, 64, "did you mean --workers?")
	h.pitboss("ping").want(t, 64, "usage: pitboss ping WORKER")
	h.pitboss("agent", "--config", "pitboss.yaml").want(t, 75, "cannot lock", "agent.lock", "stop that one first")

	busy := h.start(h.command("pitboss", "call", "nap", "seconds=600", "file="+h.path("begun")))
	h.awaitFile("begun")
	queued := h.start(h.command("pitboss", "call", "add", "a=1", "b=2"))
	h.await("queued", func() bool { st, ok := s.status(); return ok && st.Pools[0].Queued == 1 })
	h.pitboss("call", "add", "a=1", "b=2").want(t, 75, `QUEUE_FULL: queue of pool "default" is full (1 calls wait)`, "queue.max")
	if code := queued.exit(); code != 75 || !strings.Contains(queued.log(), "QUEUE_TIMEOUT") || !strings.Contains(queued.log(), "never ran") {
		t.Errorf("exit code %d: %s", code, queued.log())
	}
	must(t, busy.cmd.Process.Signal(syscall.SIGINT))
	if code := busy.exit(); code != 130 || !strings.Contains(busy.log(), "interrupted; the call was cancelled") {
		t.Errorf("exit code %d: %s", code, busy.log())
	}
	s.awaitReady() // the worker of the cancelled call is replaced

	nobody := h.command("pitboss", "call", "add", "a=1", "b=2")
	nobody.Env = append(h.env, "PITBOSS_SOCKET="+h.path("pitboss/agent.sock"))
	nobody.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	must(t, os.Chmod(h.dir, 0o755))
	h.finish(nobody).want(t, 77, "agent.sock", "permission denied", "ask its owner for access")

	again := h.start(h.command("pitboss", "call", "nap", "seconds=1", "file="+h.path("again")))
	h.awaitFile("again")
	h.pitboss("stop", "--no-wait").want(t, 0)
	h.await("draining", func() bool { st, ok := s.status(); return ok && st.Agent.State == "draining" })
	h.pitboss("call", "add", "a=1", "b=2").want(t, 75, "DRAINING", "retry when calls are taken again")
	if code := again.exit(); code != 0 {
		t.Errorf("the running call ended with %d: %s", code, again.log())
	}
	if code := s.exit(); code != 0 {
		t.Errorf("the agent ended with %d: %s", code, s.log())
	}
}

// TestAKilledAgentEndsWithItsCertificate: the PID that was started says so, exits 70, and nobody is left.
func TestAKilledAgentEndsWithItsCertificate(t *testing.T) {
	h := newHost(t)
	s := h.serve(onePool)
	st, _ := s.status()
	cut := h.start(h.command("pitboss", "call", "nap", "seconds=600", "file="+h.path("begun")))
	h.awaitFile("begun")
	must(t, syscall.Kill(st.Agent.PID, syscall.SIGKILL))
	if code := s.exit(); code != 70 {
		t.Errorf("exit code %d", code)
	}
	if code := cut.exit(); code != 69 || !strings.Contains(cut.log(), "the agent ended while it had the call") || !strings.Contains(cut.log(), "it may have run") {
		t.Errorf("the call that was cut ended with %d: %s", code, cut.log())
	}
	h.pitboss("call", "nap", "seconds=1").want(t, 69, "cannot reach the agent at", "start one with `pitboss agent`", "!may have run")
	h.pitboss("status").want(t, 69, "cannot reach the agent at", "start one with `pitboss agent`")
	for _, text := range []string{`"cause":"signal SIGKILL"`, `"survivors":[]`, `"proof":"ECHILD"`} {
		if !strings.Contains(s.log(), text) {
			t.Errorf("no %s in\n%s", text, s.log())
		}
	}
	if text, err := os.ReadFile(h.path("pitboss/agent/last-death.json")); err != nil || !strings.Contains(string(text), `"agent_pid":`) {
		t.Errorf("last-death.json: %s %v", text, err)
	}
}

// TestAnOrdinaryEndHasNoCertificate, however often: a farewell that is lost would look like a death.
func TestAnOrdinaryEndHasNoCertificate(t *testing.T) {
	h := newHost(t)
	for range 5 {
		e := h.pitboss("run", "tools.py", "add", "a=1", "b=2")
		e.want(t, 0, "!agent_pid", "!dead")
		if e.stdout != "3\n" {
			t.Errorf("stdout %q", e.stdout)
		}
	}
}

func TestAWrongConfigurationNamesEveryFault(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("bad.yaml"), []byte("pools:\n  - name: UPPER\n    adapter: nowhere.py\n    wrokers: 2\n    slots: 4\n    timeouts: {kill: 2h}\nlog: {level: loud}\n"), 0o644))
	for _, args := range [][]string{{"config", "check", "bad.yaml"}, {"agent", "--config", "bad.yaml"}} {
		h.pitboss(args...).want(t, 78, "bad.yaml:4:5: pools[0].wrokers", "bad.yaml:5:5: pools[0].slots", "not available in this version",
			"bad.yaml:2:11: pools[0].name", "bad.yaml:6:22: pools[0].timeouts.kill", "bad.yaml:7:14: log.level", "`pitboss config defaults` shows every key")
	}
	h.pitboss("config", "check", "nowhere.yaml").want(t, 78, "nowhere.yaml")
	h.pitboss("config", "check").want(t, 64, "usage: pitboss config check FILE")
}
