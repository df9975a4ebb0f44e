package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestGoldenWithoutAnAgent: what needs none, and what each command says that finds none or is misused.
func TestGoldenWithoutAnAgent(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(onePool), 0o644))
	must(t, os.WriteFile(h.path("bad.yaml"), []byte("pools:\n  - name: UPPER\n    adapter: tools.py\n    wrokers: 2\nlog: {level: loud}\n"), 0o644))
	must(t, os.WriteFile(h.path("bad.py"), []byte("raise RuntimeError('no model')\n"), 0o644))
	must(t, os.WriteFile(h.path("seven.sh"), []byte("exit 7\n"), 0o644))
	g := h.goldens("no_agent")
	g.run(
		"pitboss version", "pitboss version --json", "pitboss version --python-path", "pitboss version now",
		"pitboss config check pitboss.yaml", "pitboss config check pitboss.yaml --json", "pitboss config check bad.yaml", "pitboss config check bad.yaml --json",
		"pitboss config check nowhere.yaml --json", "pitboss config check", "pitboss config show", "pitboss config show --config bad.yaml",
		"pitboss config defaults now", "pitboss config dance",
		"pitboss new greeter", "pitboss new reader --json", "pitboss new greeter", "pitboss new class",
		"pitboss agent", "pitboss agent --config bad.yaml", "pitboss agent now",
		"pitboss run tools.py add a=1 b=2", "pitboss run tools.py add a=1 b=2 --json", "pitboss run tools.py count n=2", "pitboss run", "pitboss run nowhere.py add",
		"pitboss run bad.py add", "pitboss run --python /nowhere/python tools.py add", "pitboss run --workers 0x tools.py",
		"pitboss run tools.py -- sh seven.sh",
		"pitboss completion tcsh", "pitboss help dance", "pitboss rnu", "pitboss --sokcet x status", "pitboss statsu",
	)
	for _, command := range []string{"tools", "status", "calls", "events", "logs", "stop", "drain", "resume", "reload", "health", "call add", "cancel 1", "explain 1",
		"stack default-0.1", "ping default-0.1", "restart default-0.1", "scale default 2", "wait --timeout 100ms"} {
		g.run("pitboss " + command)
	}
	g.run("pitboss status --json", "pitboss tools now", "pitboss status now", "pitboss workers now", "pitboss calls now", "pitboss events --prefix nothing.", "pitboss logs a b", "pitboss stop now",
		"pitboss call", "pitboss cancel x", "pitboss cancel", "pitboss explain 0", "pitboss stack", "pitboss ping", "pitboss restart a b", "pitboss drain now",
		"pitboss resume now", "pitboss scale default", "pitboss reload now", "pitboss wait now", "pitboss wait --timeout 0s", "pitboss health --timeout x")
	g.record("pitboss doctor tools.py", examined(h.pitboss("doctor", "tools.py")))
	g.record("pitboss doctor --json tools.py", examined(h.pitboss("doctor", "--json", "tools.py")))
	for _, line := range []string{"pitboss bench --calls 100", "pitboss bench --calls 100 --json"} {
		e := h.pitboss(strings.Fields(line)[1:]...)
		e.stdout = regexp.MustCompile(`((?:after|p50|p99|max|throughput)\s+|_us": |_ms": |_s": )[1-9][\d.]*`).ReplaceAllString(e.stdout, "$1<number>")
		g.record(line, e)
	}
	for _, line := range []string{"pitboss verify --only systemd-run --seed 7", "pitboss verify --only systemd-run --seed 7 --json"} {
		e := h.pitboss(strings.Fields(line)[1:]...)
		e.stdout = regexp.MustCompile(`(?s)("host": \{).*?\}`).ReplaceAllString(e.stdout, "$1<host>}")
		e.stdout = regexp.MustCompile(`(?s),\s*"notes": \[.*?\]`).ReplaceAllString(e.stdout, "") // which witnesses there are is the host's
		e.stdout = regexp.MustCompile(`( runs in )\d+ s`).ReplaceAllString(e.stdout, "$1<number> s")
		g.record(line, e)
	}
	g.run("pitboss verify now", "pitboss verify --only kill-agent-idel", "pitboss verify --rounds -1", "pitboss verify --python /nowhere/python")
	g.run("pitboss bench now", "pitboss bench --calls 5", "pitboss bench --python /nowhere/python")
	g.run("pitboss doctor a b", "pitboss doctor --timeout 0s")
	for _, line := range []string{"config defaults", "config defaults --json"} {
		e := h.pitboss(strings.Fields(line)...)
		e.stdout = regexp.MustCompile(`(\bworkers"?: )[12]\b`).ReplaceAllString(e.stdout, "$1<cores, at most 2>")
		g.record("pitboss "+line, e)
	}
	e := h.pitboss("help", "version")
	e.stdout, _, _ = strings.Cut(e.stdout, "\n")
	g.record("pitboss help version | head -1", ended{e.code, e.stdout + "\n", e.stderr})
	for _, shell := range []string{"bash", "zsh", "fish"} { // cobra's text: it is tried, not compared, by TestCompletionScripts
		e := h.pitboss("completion", shell)
		e.stdout, _, _ = strings.Cut(e.stdout, "\n")
		g.record("pitboss completion "+shell+" | head -1", ended{e.code, e.stdout + "\n", e.stderr})
		g.run("pitboss completion " + shell + " now")
	}
}

// examined leaves of doctor's output what is the same on every healthy host: the checks in their order, and that none fails.
func examined(e ended) ended {
	for _, r := range [][2]string{
		{`(?m)^      (?:\||fix:) .*\n`, ""},
		{`(?m)^(?:ok|warn) +([a-z]+(?: [a-z]+)?)  .+`, "<pass>  $1  <detail>"},
		{`("grade": )"(?:ok|warn)"`, `$1"<pass>"`},
		{`("detail": )".+"`, `$1"<detail>"`},
		{`,\n +"(?:fix|output)": ".*"`, ""},
	} {
		e.stdout = regexp.MustCompile(r[0]).ReplaceAllString(e.stdout, r[1])
	}
	return e
}

// hello is what the adapter says to whoever imports it: a line of a worker outside of every call.
const hello = "\nprint('hello')\n"

// extend adds Python to the host's adapter.
func (h *host) extend(source string) {
	h.t.Helper()
	must(h.t, os.WriteFile(h.path("tools.py"), []byte(read(h.t, h.path("tools.py"))+source), 0o644))
}

// aGoodAndABadPool is what the looking commands are shown: one that serves and one that cannot start.
const aGoodAndABadPool = `
pools:
  - {name: default, adapter: tools.py, workers: 1, timeouts: {kill: 300ms}, queue: {max: 1, timeout: 400ms}, limits: {payload: 1MiB}}
  - {name: bad, adapter: bad.py, workers: 1}
`

// startWithABadPool starts an agent of aGoodAndABadPool and waits until one is ready and the other has failed.
func (h *host) startWithABadPool() *service {
	h.t.Helper()
	must(h.t, os.WriteFile(h.path("bad.py"), []byte("raise RuntimeError('no model')\n"), 0o644))
	s := h.start(h.command("pitboss", "agent", "--config", "pitboss.yaml"))
	s.awaitOneWorker()
	return s
}

// awaitOneWorker waits for the first pool's only worker, idle and with an answered heartbeat, and the second pool's failure.
func (s *service) awaitOneWorker() {
	s.t.Helper()
	s.await("ready", func() bool {
		select {
		case <-s.done:
			s.t.Fatalf("the agent ended: %s", s.log())
		default:
		}
		st, ok := s.status()
		return ok && st.Pools[0].Ready == 1 && len(st.Pools[0].Workers) == 1 && st.Pools[0].Workers[0].Heartbeat.RTTMS > 0 &&
			(len(st.Pools) == 1 || st.Pools[1].State == "failed" && len(st.Pools[1].Workers) == 0)
	})
}

// TestGoldenOfLooking: everything that only looks, at an agent of two pools, and every command's unknown name.
func TestGoldenOfLooking(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(aGoodAndABadPool), 0o644))
	h.extend(hello)
	must(t, os.WriteFile(h.path("four"), []byte("four"), 0o644))
	g := h.goldens("look")
	h.startWithABadPool()
	g.run("pitboss status", "pitboss status --json", "pitboss workers --pool default", "pitboss workers --json", "pitboss workers --pool defualt", "pitboss tools", "pitboss tools --schema --pool default", "pitboss tools --json --pool default", "pitboss tools --pool defualt",
		"pitboss calls", "pitboss calls --json", "pitboss calls --pool defualt", "pitboss ping default-0.1", "pitboss ping default-0.1 --json", "pitboss ping default-0.9",
		"pitboss wait --pool default", "pitboss wait --pool default --json", "pitboss wait", "pitboss wait --pool defualt",
		"pitboss health --pool default", "pitboss health --pool default --json", "pitboss health", "pitboss health --pool defualt",
		"pitboss events --prefix agent.", "pitboss events --prefix wroker.", "pitboss events --prefix worker.ready", "pitboss events --prefix worker.ready --json",
		"pitboss call default/add a=1 b=2", "pitboss call default/add a=1 b=2 --json", "pitboss call default/count n=2", "pitboss call default/count n=2 --json",
		"pitboss call default/size data=@four", "pitboss call default/zeros n=5", "pitboss call default/zeros n=5 --json",
		"pitboss logs default", "pitboss logs default --json", "pitboss logs defualt",
		"pitboss explain 1", "pitboss explain 1 --json", "pitboss explain 99",
		"pitboss cancel 1", "pitboss stack default-0.9", "pitboss restart default-0.9", "pitboss restart --pool defualt", "pitboss drain --pool defualt", "pitboss resume --pool defualt",
		"pitboss scale defualt 2", "pitboss scale default 0", "pitboss call nap")

	nap, end := g.begin("pitboss call default/nap seconds=600 file=<home>/begun")
	h.awaitFile("begun")
	g.run("pitboss calls", "pitboss calls --json", "pitboss explain 9", "pitboss explain 9 --json", "pitboss stack default-0.1", "pitboss stack default-0.1 --json")
	must(t, nap.cmd.Process.Signal(syscall.SIGINT))
	end()
}

// TestGoldenOfOperating: everything that changes an agent.
func TestGoldenOfOperating(t *testing.T) {
	h := newHost(t)
	g := h.goldens("operate")
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(onePool), 0o644))
	c := h.command("pitboss", "agent", "--config", "pitboss.yaml")
	var stdout bytes.Buffer
	c.Stdout = &stdout
	s := h.start(c)
	s.awaitOneWorker()
	g.run("pitboss restart default-0.1")
	s.awaitOneWorker()
	g.run("pitboss restart --pool default --json")
	s.awaitOneWorker()
	g.run("pitboss scale default 2", "pitboss scale default 1 --json")
	s.awaitOneWorker()
	g.run("pitboss drain", "pitboss drain --json", "pitboss call add a=1 b=2", "pitboss resume", "pitboss resume --json", "pitboss reload", "pitboss reload --json")
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(strings.Replace(onePool, "max: 1,", "max: 2,", 1)), 0o644))
	g.run("pitboss reload")
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte("pools: 1\n"), 0o644))
	g.run("pitboss reload", "pitboss reload --json", "pitboss restart")
	must(t, os.WriteFile(h.path("tools.py"), []byte("raise RuntimeError('no model')\n"), 0o644))
	g.run("pitboss restart --pool default")

	_, end := g.begin("pitboss call nap seconds=600 file=<home>/begun --json")
	h.awaitFile("begun")
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(onePool), 0o644))
	g.run("pitboss drain --timeout 300ms", "pitboss resume", "pitboss agent --config pitboss.yaml")
	g.run("pitboss cancel 2 --json")
	end()
	g.run("pitboss stop --json")
	code := s.exit() // before its output is read
	g.record("pitboss agent --config pitboss.yaml 2>log", ended{code, stdout.String(), ""})
}

// TestGoldenAfterADeath: what the next agent tells of one that was killed, and what the watchdog said of it.
func TestGoldenAfterADeath(t *testing.T) {
	h := newHost(t)
	s := h.serve(onePool)
	g := h.goldens("death")
	st, _ := s.status()
	must(t, syscall.Kill(st.Agent.PID, syscall.SIGKILL))
	s.exit()
	lines := strings.Split(strings.TrimSpace(s.log()), "\n")
	g.record("pitboss agent --config pitboss.yaml 2>&1 | tail -1   # whose agent gets SIGKILL", ended{s.exit(), lines[len(lines)-1] + "\n", ""})
	g.run("pitboss status")
	s = h.start(h.command("pitboss", "agent", "--config", "pitboss.yaml"))
	s.awaitOneWorker()
	g.run("pitboss status", "pitboss status --json", "pitboss events --prefix agent.died")
}
