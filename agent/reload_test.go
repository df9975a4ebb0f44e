package agent

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// gated starts its second worker only once the file "go" is there.
const gated = `
import os, time
import pitboss

with open("started", "a") as f:
    f.write("x")
while os.environ.get("GATED") and os.path.getsize("started") > 3 and not os.path.exists("go"):
    time.sleep(0.01)

@pitboss.tool
def length(text: str) -> int:
    return len(text)
`

// TestALargeCallInTheMiddleOfAReload: a reload raises limits.payload, and one worker of the settings before still serves. A call that
// is too large for that worker never reaches it, and says what to do; it and the slot are none the worse.
func TestALargeCallInTheMiddleOfAReload(t *testing.T) {
	small, roomy := testPool(t, "default", gated), testPool(t, "roomy", gated)
	small.Workers, small.StartParallel, small.Limits.Payload, roomy.Limits.Payload = 2, 1, 64<<10, 1<<20
	next := Default()
	a := runTestAgent(t, []PoolConfig{small, roomy}, func(a *Agent) { a.options.Reload = func() (Config, error) { return next, nil } })
	waitReady(t, a)
	old := map[string]bool{}
	for _, w := range workers(a) {
		old[w.ID] = true
	}
	grown := small
	grown.Limits.Payload, grown.Env = 1<<20, map[string]string{"GATED": "1"}
	next.Pools = []PoolConfig{grown, roomy}
	reloaded := make(chan error, 1)
	go func() {
		_, err := a.Reload(within(t, 60*time.Second))
		reloaded <- err
	}()
	await(t, 30*time.Second, "half rolled", func() bool {
		fresh, left := 0, 0
		for _, w := range workers(a) {
			switch ready := w.State == "ready"; {
			case old[w.ID]:
				left++
			case ready:
				fresh++
			}
		}
		return fresh == 1 && left == 1
	})
	large := func() (*Result, error) {
		req := request("length", fmt.Sprintf(`{"text":%q}`, strings.Repeat("a", 100<<10)))
		req.Pool = "default"
		return a.Call(within(t, 20*time.Second), req)
	}
	refused, served := 0, 0
	await(t, 30*time.Second, "refused by the old worker and served by the new one", func() bool {
		r, err := large()
		if err == nil {
			served++
			if old[r.Worker] || string(r.JSON) != fmt.Sprint(100<<10) {
				t.Errorf("%+v", r)
			}
		} else {
			refused++
			e := wantReason(t, err, PayloadTooLarge)
			if e.MayHaveRun || !strings.Contains(e.Message, "are over the limit of 65536 of worker default-") || !strings.Contains(e.Message, "retry when the reload has ended") {
				t.Errorf("%+v", e)
			}
			explained(t, a, e.Call, "PAYLOAD_TOO_LARGE")
		}
		return refused > 0 && served > 0
	})
	seen := map[bool]int{}
	for range 4 { // who has been idle longest is next: both serve
		r, err := a.Call(within(t, 20*time.Second), &Request{Pool: "default", Tool: "length", Args: Value{JSON: []byte(`{"text":"abc"}`)}})
		if err != nil {
			t.Fatalf("a small call: %v", err)
		}
		seen[old[r.Worker]]++
	}
	if seen[true] == 0 || seen[false] == 0 {
		t.Errorf("small calls went to the old and the new worker: %v", seen)
	}
	write(t, filepath.Join(small.Workdir, "go"), "", 0o600)
	if err := <-reloaded; err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if r, err := large(); err != nil || old[r.Worker] {
			t.Errorf("after the reload: %v %v", r, err)
		}
	}
}

func TestReloadPlanOfAccess(t *testing.T) {
	old, next := Default(), Default()
	next.Access.Clients.Users, next.Access.Admins.Groups = []string{"1"}, []string{"2"}
	if plan := planReload(old, next); fmt.Sprint(plan.access) != "[access.clients.users access.admins.groups]" || len(plan.later) != 0 {
		t.Errorf("%+v", plan)
	}
	next = Default()
	next.Access.Clients.Users = []string{} // absent and empty are the same
	if plan := planReload(old, next); len(plan.access) != 0 {
		t.Errorf("%+v", plan)
	}
}
