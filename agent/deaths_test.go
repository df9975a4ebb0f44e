package agent

import (
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestDeathsAreToldAndReplaced(t *testing.T) {
	for _, c := range []struct{ tool, signal, line string }{
		{"segfault", "SIGSEGV", "in segfault"}, {"exit_three", "", "in exit_three"},
	} {
		t.Run(c.tool, func(t *testing.T) {
			a := startTestAgent(t, testTools, nil)
			if err := a.WaitReady(within(t, 20*time.Second)); err != nil {
				t.Fatal(err)
			}
			e := callFails(t, a, request(c.tool, `{}`), WorkerDied)
			pm := e.PostMortem
			if pm == nil || pm.Signal != c.signal || (c.signal == "" && (pm.Code == nil || *pm.Code != 3)) || !strings.Contains(pm.Stack, c.line) {
				t.Errorf("post-mortem %+v", pm)
			}
			serves(t, a, time.Second)
		})
	}
}

// TestAToolThatForksAnswersOnce: the child of a fork holds no end of the link, whatever it does and however long it lives.
func TestAToolThatForksAnswersOnce(t *testing.T) {
	a := startTestAgent(t, testTools, nil)
	file := filepath.Join(t.TempDir(), "afterwards")
	for _, c := range []struct{ tool, args, want string }{
		{"child_returns", `{}`, `"parent"`}, {"child_raises", `{}`, `"parent"`}, {"child_lives_on", `{"file":` + strconv.Quote(file) + `}`, ""},
	} {
		r, err := a.Call(within(t, 20*time.Second), request(c.tool, c.args))
		if err != nil || (c.want != "" && string(r.JSON) != c.want) || string(r.JSON) == "-1" {
			t.Errorf("%s: %v %v", c.tool, r, err)
		}
		for range 20 { // a second answer would be taken for one of these, or be a protocol error that ends the worker
			serves(t, a, 5*time.Second)
		}
	}
	worker := a.Status().Pools[0].Workers[0]
	if worker.LastExit != "" || worker.CallsTotal < 63 {
		t.Errorf("the worker was replaced: %+v", worker)
	}
	// The last child still lives and waits for the worker's end: it is killed with the tree, and answers nobody.
	callFails(t, a, request("exit_three", `{}`), WorkerDied)
	for range 20 {
		serves(t, a, 5*time.Second)
	}
	if errors := a.Status().Pools[0].ErrorsTotal; errors != 1 {
		t.Errorf("%d errors, want the one death", errors)
	}
}

// TestWhatAWorkerLeavesDiesWithIt while its sibling's live on.
func TestWhatAWorkerLeavesDiesWithIt(t *testing.T) {
	a := startTestAgent(t, testTools, func(p *PoolConfig) { p.Workers = 2 })
	if err := a.WaitReady(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	pids := map[string][]int{} // by worker
	for range 2 {              // the longest idle worker is next, so these are two
		r, err := a.Call(within(t, 20*time.Second), request("escapees", `{}`))
		if err != nil {
			t.Fatal(err)
		}
		var list []int
		if err := json.Unmarshal(r.JSON, &list); err != nil || len(list) != 2 {
			t.Fatalf("%s %v", r.JSON, err)
		}
		pids[r.Worker] = list
	}
	if len(pids) != 2 {
		t.Fatalf("both calls went to one worker: %v", pids)
	}
	dead := callFails(t, a, request("exit_three", `{}`), WorkerDied).Worker
	for worker, list := range pids {
		for _, pid := range list {
			if worker == dead {
				await(t, 5*time.Second, "gone with its worker", func() bool { return parentOf(pid) == 0 })
			} else if parentOf(pid) == 0 {
				t.Errorf("process %d of the sibling %s was killed", pid, worker)
			}
		}
	}
	serves(t, a, 2*time.Second)
}
