package agent

import (
	"context"
	_ "embed"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

//go:embed testdata/needy.py
var needyTools string

// needy makes a pool whose workers take a port and a lock each. The ports are free now, and nobody gets them by chance: they are
// below the range of ephemeral ones.
func needy(t *testing.T, workers int) func(*PoolConfig) {
	t.Helper()
	base := freePorts(t, workers)
	return func(p *PoolConfig) {
		write(t, filepath.Join(p.Workdir, "tools.py"), needyTools, 0o600)
		p.Workers = workers
		p.Env = map[string]string{"NEED_PORT": fmt.Sprintf("{{add %d .Index}}", base), "NEED_LOCK": "{{.Index}}.lock"}
		p.Release.Ports = []string{fmt.Sprintf("127.0.0.1:{{add %d .Index}}", base)}
		p.Release.Files = []string{filepath.Join(p.Workdir, "{{.Index}}.lock")}
	}
}

func freePorts(t *testing.T, n int) (base int) {
	t.Helper()
	for base = 20000 + os.Getpid()%8000; base < 32000; base += n {
		taken := 0
		for port := base; port < base+n; port++ {
			if tryPort(portAddress{port: uint16(port)}, false) != nil {
				taken++
			}
		}
		if taken == 0 {
			return base
		}
	}
	t.Fatal("no free ports")
	return 0
}

// releaseEvents are the events of the gate so far: "waited port 1", "overdue port 1 …".
func releaseEvents(t *testing.T, a *Agent) (all []Event) {
	t.Helper()
	must(t, a.WatchEvents(context.Background(), false, "worker.release", func(e Event) error { all = append(all, e); return nil }))
	return all
}

func fieldOf(e Event, name string) string {
	for _, f := range e.Fields {
		if f.Key == name {
			return f.Value.String()
		}
	}
	return ""
}

// killAndReplace SIGKILLs every worker, three times over, and returns what their successors met. In the end the first one's keeper is
// stopped, as on a host that starves it: what its worker has left lives on for seconds, beyond any backoff.
func killAndReplace(t *testing.T, a *Agent, cfg PoolConfig) (met map[string]int) {
	t.Helper()
	for round := range 3 {
		waitReady(t, a)
		old := map[int]bool{}
		for i, w := range workers(a) {
			old[w.PID] = true
			if i == 0 && round == 2 {
				must(t, syscall.Kill(w.KeeperPID, syscall.SIGSTOP)) // until the agent has no more patience and kills it
			}
			must(t, syscall.Kill(w.PID, syscall.SIGKILL))
		}
		await(t, 60*time.Second, fmt.Sprintf("replaced, round %d", round), func() bool {
			s := a.Status().Pools[0]
			return s.Ready == cfg.Workers && len(s.Workers) == cfg.Workers && !slices.ContainsFunc(s.Workers, func(w WorkerStatus) bool { return old[w.PID] })
		})
	}
	met = map[string]int{}
	for _, got := range linesOf(t, filepath.Join(cfg.Workdir, "took")) {
		met[got]++
	}
	return met
}

// TestASuccessorFindsWhatItNeedsFree: an escapee of each dead worker holds port and lock, and ignores TERM for all of its grace. The control
// is the same pool without a gate: there the successors meet both.
func TestASuccessorFindsWhatItNeedsFree(t *testing.T) {
	for name, gate := range map[string]bool{"with a gate": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			var cfg PoolConfig
			change := needy(t, 3)
			a := startTestAgent(t, "", func(p *PoolConfig) {
				change(p)
				p.Env["NEED_ESCAPEE"] = "1"
				p.Timeouts.Kill = time.Second
				if !gate {
					p.Release = DefaultPool().Release
				}
				cfg = *p
			})
			met := killAndReplace(t, a, cfg)
			if total := met["ok"] + met["EADDRINUSE"] + met["EAGAIN"]; total != 12 {
				t.Errorf("%v: not 12 workers", met)
			}
			if gate != (met["ok"] == 12) {
				t.Errorf("%v", met)
			}
			if n := len(linesOf(t, filepath.Join(cfg.Workdir, "escapees"))); n != met["ok"] {
				t.Errorf("%d escapees of %v", n, met)
			}
		})
	}
}

// TestAKilledKeeperProvesNothing: what its worker has left falls to the launcher, and the successor waits until that has killed it.
func TestAKilledKeeperProvesNothing(t *testing.T) {
	var cfg PoolConfig
	change := needy(t, 1)
	a := startTestAgent(t, "", func(p *PoolConfig) {
		change(p)
		p.Env["NEED_ESCAPEE"] = "1"
		p.Release.Ports, p.Release.Files = []string{"1"}, nil // nothing that the escapee holds
		cfg = *p
	})
	for range 5 {
		waitReady(t, a)
		old := workers(a)[0]
		escapees := linesOf(t, filepath.Join(cfg.Workdir, "escapees"))
		escapee, err := strconv.Atoi(escapees[len(escapees)-1])
		must(t, err)
		if !lives(escapee) {
			t.Fatalf("process %d, which %s has left, is dead already", escapee, old.ID)
		}
		must(t, syscall.Kill(old.KeeperPID, syscall.SIGKILL))
		await(t, 30*time.Second, "replaced", func() bool {
			now := workers(a)
			if len(now) == 1 && now[0].ID != old.ID && now[0].PID != 0 && lives(escapee) {
				t.Errorf("worker %s runs beside process %d, which %s has left", now[0].ID, escapee, old.ID)
			}
			return len(now) == 1 && now[0].ID != old.ID && now[0].State == "ready"
		})
	}
	if took := linesOf(t, filepath.Join(cfg.Workdir, "took")); len(took) != 6 || slices.Contains(took, "EADDRINUSE") {
		t.Errorf("%v", took)
	}
}

// What a killed keeper has left is seen while its launcher has not killed it: here, because that is stopped.
func TestWhatAKilledKeeperLeavesIsSeen(t *testing.T) {
	var cfg PoolConfig
	change := needy(t, 1)
	a := startTestAgent(t, "", func(p *PoolConfig) {
		change(p)
		p.Env["NEED_ESCAPEE"] = "1"
		cfg = *p
	})
	waitReady(t, a)
	p := a.allPools()[0]
	p.mu.Lock()
	left := remains{"it", p.launcher}
	p.mu.Unlock()
	escapee, err := strconv.Atoi(linesOf(t, filepath.Join(cfg.Workdir, "escapees"))[0])
	must(t, err)
	if !left.gone(p) {
		t.Error("something is left while nobody has died")
	}
	must(t, syscall.Kill(left.launcher.process.pid, syscall.SIGSTOP))
	must(t, syscall.Kill(workers(a)[0].KeeperPID, syscall.SIGKILL))
	await(t, 10*time.Second, "fallen to the launcher", func() bool { return parentOf(escapee) == left.launcher.process.pid })
	if left.gone(p) {
		t.Errorf("process %d is not seen", escapee)
	}
	must(t, syscall.Kill(left.launcher.process.pid, syscall.SIGCONT))
	await(t, 20*time.Second, "gone", func() bool { return left.gone(p) })
	if lives(escapee) {
		t.Errorf("process %d lives", escapee)
	}
}

// TestAForeignHolderIsNamed: a port that somebody else has keeps the pool from starting, and everybody hears who that is; it starts by
// itself when the port is free. With on_timeout: start it starts beside the holder.
func TestAForeignHolderIsNamed(t *testing.T) {
	for _, policy := range []string{"fail", "start"} {
		t.Run(policy, func(t *testing.T) {
			change, port := needy(t, 1), ""
			var cfg PoolConfig
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			must(t, err)
			defer l.Close()
			port = l.Addr().String()
			a := startTestAgent(t, "", func(p *PoolConfig) {
				change(p)
				p.Release.Ports, p.Release.Timeout, p.Release.OnTimeout = []string{port}, 500*time.Millisecond, policy
				cfg = *p
			}, probing(50*time.Millisecond))
			holder := fmt.Sprintf("port %s (pid %d (", port, os.Getpid())
			if policy == "start" {
				waitReady(t, a)
				if took := linesOf(t, filepath.Join(cfg.Workdir, "took")); len(took) != 1 {
					t.Errorf("%v", took)
				}
			} else {
				e := wantReason(t, a.WaitReady(within(t, 20*time.Second)), PoolFailed)
				if !strings.Contains(e.Message, "cannot start worker 0 of pool \"default\": not free after 500ms: "+holder) {
					t.Errorf("%s", e.Message)
				}
				callFails(t, a, request("version", `{"nonce":"x"}`), PoolFailed)
				s := a.Status().Pools[0]
				if len(s.Workers) != 0 || len(s.Waiting) != 1 || s.Waiting[0].WaitedS < 0.5 || !strings.HasPrefix(s.Waiting[0].String(), "worker 0 waits for "+holder) {
					t.Errorf("%+v", s)
				}
				must(t, l.Close())
				await(t, 20*time.Second, "ready by itself", func() bool { return a.Status().Pools[0].State == "ready" })
			}
			if s := a.Status().Pools[0]; len(s.Waiting) != 0 || s.State != "ready" {
				t.Errorf("%+v", s)
			}
			var names []string
			for _, e := range releaseEvents(t, a) {
				names = append(names, e.Name)
				waited, _ := strconv.ParseFloat(fieldOf(e, "waited_s"), 64)
				if fieldOf(e, "resource") != "port "+port || waited < 0.5 || !strings.HasPrefix("port "+port+" ("+fieldOf(e, "holder"), holder) {
					t.Errorf("%v", e)
				}
			}
			want := []string{"worker.release_overdue", "worker.release_waited"}
			if policy == "start" {
				want = want[:1]
			}
			if !slices.Equal(names, want) {
				t.Errorf("events %v, want %v", names, want)
			}
		})
	}
}

// A restart of a pool with a gate is break before make, one slot at a time: no two workers meet, and the other serves on.
func TestAGatedPoolRestartsSlotBySlot(t *testing.T) {
	change := needy(t, 2)
	var cfg PoolConfig
	a := startTestAgent(t, "", func(p *PoolConfig) { change(p); cfg = *p })
	waitReady(t, a)
	tr := startTraffic(a, 3)
	setCode(t, cfg, strings.Replace(needyTools, `VERSION = "1"`, `VERSION = "2"`, 1))
	ids, err := a.Restart(within(t, 60*time.Second), "", "default")
	if err != nil || len(ids) != 2 {
		t.Errorf("%v %v", ids, err)
	}
	one := workers(a)[1]
	if ids, err = a.Restart(within(t, 60*time.Second), one.ID, ""); err != nil || len(ids) != 1 || workerOf(a, ids[0]).Index != one.Index {
		t.Errorf("%v %v", ids, err)
	}
	setCode(t, cfg, "raise RuntimeError('broken on purpose')")
	_, err = a.Restart(within(t, 60*time.Second), "", "default")
	e := wantReason(t, err, PoolFailed)
	if !strings.Contains(e.Message, "broken on purpose") || !strings.Contains(e.Message, "one had ended for its successor") {
		t.Errorf("%s", e.Message)
	}
	setCode(t, cfg, strings.Replace(needyTools, `VERSION = "1"`, `VERSION = "3"`, 1))
	await(t, 60*time.Second, "two workers again", func() bool { s := a.Status().Pools[0]; return s.Ready+s.Busy == 2 && len(s.Workers) == 2 })
	if answers := tr.end(t, cfg); answers[`"1"`] == 0 || answers[`"2"`] == 0 {
		t.Errorf("answers %v", answers)
	}
	if took := linesOf(t, filepath.Join(cfg.Workdir, "took")); len(took) < 6 || slices.ContainsFunc(took, func(got string) bool { return got != "ok" }) {
		t.Errorf("took %v", took)
	}
}

// A restart that cannot get what it needs says so, and the slot goes on as before once it can.
func TestARestartThatCannotGetItsPort(t *testing.T) {
	change := needy(t, 2)
	var cfg, next PoolConfig
	reload := Default()
	a := startTestAgent(t, "", func(p *PoolConfig) { change(p); cfg = *p }, func(a *Agent) { a.options.Reload = func() (Config, error) { return reload, nil } })
	waitReady(t, a)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	next = cfg
	next.Release.Ports, next.Release.Timeout = []string{l.Addr().String() + `{{if .Index}}/udp{{end}}`}, 300*time.Millisecond
	reload.Pools = []PoolConfig{next}
	_, err = a.Reload(within(t, 60*time.Second))
	if e := wantReason(t, err, PoolFailed); !strings.Contains(e.Message, "not free after 300ms: port "+l.Addr().String()) {
		t.Errorf("%s", e.Message)
	}
	waitReady(t, a)
	if took := linesOf(t, filepath.Join(cfg.Workdir, "took")); len(took) != 3 || slices.Contains(took, "EADDRINUSE") {
		t.Errorf("took %v", took)
	}
	must(t, l.Close())
	if _, err := a.Reload(within(t, 60*time.Second)); err != nil {
		t.Error(err)
	}
	if w := a.Status().Pools[0]; w.Ready != 2 || len(w.Waiting) != 0 {
		t.Errorf("%+v", w)
	}
}

// A held worker still has its port: nobody is started beside it, and its successor comes when it has been killed.
func TestAGatedPoolStartsNoSubstitute(t *testing.T) {
	change := needy(t, 1)
	var cfg PoolConfig
	a := startTestAgent(t, "", func(p *PoolConfig) { change(p); quick(p); cfg = *p })
	waitReady(t, a)
	old := workers(a)[0]
	must(t, syscall.Kill(old.PID, syscall.SIGSTOP))
	most := 0
	await(t, 60*time.Second, "replaced", func() bool {
		now := workers(a)
		most = max(most, len(now))
		return len(now) == 1 && now[0].ID != old.ID && now[0].State == "ready"
	})
	if most != 1 {
		t.Errorf("%d workers at once", most)
	}
	if took := linesOf(t, filepath.Join(cfg.Workdir, "took")); len(took) != 2 || took[1] != "ok" {
		t.Errorf("took %v", took)
	}
}

// TestALookThatHangsHoldsNobodyUp: a nvidia-smi that never answers is its own slot's trouble. The status is there, another pool
// serves, the limit comes, and the end of the agent does not wait for it.
func TestALookThatHangsHoldsNobodyUp(t *testing.T) {
	smi := fakeGPU(t, "exec sleep 1000")
	stuck, fine := testPool(t, "stuck", versioned("1")), testPool(t, "fine", versioned("1"))
	stuck.Release.GPUs, stuck.Release.Timeout = []string{"0"}, 300*time.Millisecond
	a := runTestAgent(t, []PoolConfig{stuck, fine})
	await(t, 20*time.Second, "asked", func() bool { _, err := os.Stat(smi + ".asked"); return err == nil })
	req := request("version", `{"nonce":"x"}`)
	req.Pool = "fine"
	if _, err := a.Call(within(t, 20*time.Second), req); err != nil {
		t.Error(err)
	}
	await(t, 20*time.Second, "told", func() bool { return a.Status().Pools[0].State == "failed" })
	if reason := a.Status().Pools[0].Reason; !strings.Contains(reason, "not free after 300ms: gpu 0 (the look at it does not end)") {
		t.Errorf("%s", reason)
	}
	a.Stop("test")
	stops(t, a, 10*time.Second)
	if left := listChildren(os.Getpid()); len(left) != 0 {
		t.Errorf("children %v", left)
	}
}

func TestAScaleThatWouldShareAPortIsRefused(t *testing.T) {
	change := needy(t, 1)
	a := startTestAgent(t, "", func(p *PoolConfig) { change(p); p.Release.Ports = []string{"1"} })
	waitReady(t, a)
	if e := wantReason(t, a.Scale("default", 2), BadArguments); !strings.Contains(e.Message, `release.ports[0]: "1" is the same for all`) {
		t.Errorf("%s", e.Message)
	}
}
