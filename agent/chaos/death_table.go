package chaos

import (
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/pitboss-run/pitboss/agent/client"
)

// What must hold between the death of a part that the agent survives and the end of the agent.

// belowKeeper pins a keeper's worker and everything that the worker started.
func (r *victims) belowKeeper(i int) []*Process {
	var all []*Process
	for _, parent := range []*Process{r.keepers[i], r.workers[i]} {
		for _, pid := range ChildrenOf(parent.PID) {
			all = append(all, r.pin(pid))
		}
	}
	if len(all) != 1+escapees {
		r.Fatalf("%d processes below keeper %d, want a worker and %d escapees", len(all), r.keepers[i].PID, escapees)
	}
	return all
}

// keeperDied: the worker is gone with all that it started, its call has failed, everybody else serves on, and a replacement
// serves. It takes the dead worker off the list and puts the replacement on it.
func (r *victims) keeperDied(i int, below []*Process, phase string) {
	for _, p := range below {
		if !p.Gone(limit) {
			r.Errorf("process %d below the killed keeper is still there after %s", p.PID, limit)
		}
	}
	dead := r.workers[i].PID
	if seen, err := os.ReadFile(r.File("signals." + strconv.Itoa(dead))); err != nil || strings.IndexByte(string(seen), byte(syscall.SIGTERM)) >= 0 {
		r.Errorf("worker %d of the killed keeper saw signals %v (%v): it had nobody to send it TERM", dead, seen, err)
	}
	r.keepers, r.workers = append(r.keepers[:i:i], r.keepers[i+1:]...), append(r.workers[:i:i], r.workers[i+1:]...)
	r.wantAlive("keeper")
	if len(r.calls) > 0 {
		r.wantOneLost()
	}
	if phase == "starting" {
		r.Must(os.Remove(r.File("slow")))
	}
	r.Until("replacement", func() bool { return len(r.noted("ready")) == workers+1 })
	known := map[int]bool{dead: true}
	for _, w := range r.workers {
		known[w.PID] = true
	}
	fresh := 0
	for pid := range r.noted("ready") {
		if !known[pid] {
			fresh = pid
		}
	}
	r.adopt(fresh)
	r.poolServes(fresh, phase)
}

// adopt puts a replacement on the list of the workers.
func (r *victims) adopt(pid int) {
	w := r.pin(pid)
	w.pool = poolA
	w.watch()
	r.keepers, r.workers = append(r.keepers, r.pin(parentOf(pid))), append(r.workers, w)
}

// poolServes: the replacement answers. Where the pool's other worker is idle too, both are called at once.
func (r *victims) poolServes(fresh int, phase string) {
	if phase == "mid-call" || phase == "mid-stream" {
		r.wantAnswer(r.call(poolA, "who"), map[int]bool{fresh: true}, "a call after the keeper's death")
		return
	}
	both := map[int]bool{}
	for _, w := range r.workers {
		if w.pool == poolA {
			both[w.PID] = true
		}
	}
	one, other := r.call(poolA, "hang"), r.call(poolA, "hang")
	r.Until("call in both workers of the pool", func() bool { return len(r.noted("hang")) == len(both) })
	for pid := range both {
		r.release(pid)
	}
	r.wantAnswer(one, both, "a call after the keeper's death")
	r.wantAnswer(other, both, "a call after the keeper's death")
}

// wantOneLost: of the running calls exactly one has failed, and says why.
func (r *victims) wantOneLost() {
	var lost []*call
	r.Until("failed call", func() bool {
		lost = nil
		for _, k := range r.calls {
			select {
			case <-k.done:
				lost = append(lost, k)
			default:
			}
		}
		return len(lost) > 0
	})
	if len(lost) != 1 || lost[0].pool != poolA || reasonOf(lost[0].err) != client.WorkerDied {
		r.Errorf("%d calls ended, the first in pool %s with %v; want one of pool %s with %s", len(lost), lost[0].pool, lost[0].err, poolA, client.WorkerDied)
	}
}

// launchersDied: a new generation starts, the keepers and workers are the same, and a call that ran then is answered.
func (r *victims) launchersDied(phase string) {
	known := map[int]bool{}
	for _, k := range r.keepers {
		known[k.PID] = true
	}
	for _, l := range r.launchers {
		if !l.Gone(limit) {
			r.Fatalf("launcher %d is still there", l.PID)
		}
		known[l.PID] = true
	}
	r.Until("new generation of launchers", func() bool {
		fresh := 0
		for _, pid := range ChildrenOf(r.agent.Process.PID) {
			if !known[pid] {
				fresh++
			}
		}
		return fresh == launchers
	})
	r.wantAlive("launchers")
	if phase == "starting" {
		r.Must(os.Remove(r.File("slow")))
	}
	r.workerBAnswers("the launchers' death")
	r.wantAlive("launchers")
}

// watchdogDied: the agent drains by itself; what runs is answered. What does not end is hurried by an operator.
func (r *victims) watchdogDied() {
	if len(r.calls) == 0 {
		return
	}
	r.workerBAnswers("the watchdog's death")
	r.agent.Process.Kill(syscall.SIGTERM)
	r.agent.Process.Kill(syscall.SIGINT)
}

// workerBAnswers: the only worker of pool b answers, the call that it runs or a new one.
func (r *victims) workerBAnswers(after string) {
	for _, w := range r.workers {
		if w.pool != poolB {
			continue
		}
		var k *call
		for _, running := range r.calls {
			if running.pool == poolB {
				k = running
			}
		}
		if k == nil {
			k = r.call(poolB, "who")
		} else {
			r.release(w.PID)
		}
		r.wantAnswer(k, map[int]bool{w.PID: true}, "a call over "+after)
	}
}

// wantAlive: nobody on the lists is gone.
func (r *victims) wantAlive(killed string) {
	for i := range r.workers {
		if r.workers[i].Gone(0) || r.keepers[i].Gone(0) {
			r.Errorf("worker %d or its keeper %d died with the %s; log:\n%s", r.workers[i].PID, r.keepers[i].PID, killed, r.agent.Log())
		}
	}
}
