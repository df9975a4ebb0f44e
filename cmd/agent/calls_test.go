package main

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/agent/client"
)

// TestCallsAreSeenExplainedAndCancelled: `calls`, `stack`, `explain` and `cancel` around one running call, and each misuse.
func TestCallsAreSeenExplainedAndCancelled(t *testing.T) {
	h := newHost(t)
	h.serve(onePool)
	if e := h.pitboss("calls"); e.code != 0 || e.stdout != "no call waits or runs\n" {
		t.Errorf("%+v", e)
	}
	running := h.start(h.command("pitboss", "call", "nap", "seconds=600", "file="+h.path("begun")))
	h.awaitFile("begun")
	var calls []client.CallInfo
	e := h.pitboss("calls", "--pool", "default", "--json")
	if json.Unmarshal([]byte(e.stdout), &calls) != nil || len(calls) != 1 || calls[0].Tool != "nap" || calls[0].State != "running" {
		t.Fatalf("%+v", e)
	}
	id := strconv.FormatUint(calls[0].Call, 10)
	for _, c := range []struct{ args, stdout string }{
		{"calls", id + "     default/nap  running  " + calls[0].Worker},
		{"explain " + id, "state   runs on " + calls[0].Worker},
		{"stack " + calls[0].Worker, "in nap\n"},
		{"--json stack " + calls[0].Worker, `"stack": "`},
		{"cancel " + id, "call " + id + " ends: its worker is killed and replaced"},
	} {
		if e := h.pitboss(strings.Fields(c.args)...); e.code != 0 || !strings.Contains(e.stdout, c.stdout) {
			t.Errorf("%s: %+v", c.args, e)
		}
	}
	if code := running.exit(); code != 130 || !strings.Contains(running.log(), "ADMIN: an administrator cancelled the call to \"nap\"") {
		t.Errorf("exit code %d: %s", code, running.log())
	}
	var o agent.Outcome
	if e := h.pitboss("explain", id, "--json"); json.Unmarshal([]byte(e.stdout), &o) != nil || o.Reason != "ADMIN" || o.EndedBy != "kill" || o.PostMortem == nil {
		t.Errorf("%+v", e)
	}
	if e := h.pitboss("explain", id); !strings.Contains(e.stdout, "reason  ADMIN: an administrator") || !strings.Contains(e.stdout, "in nap") {
		t.Errorf("%+v", e)
	}
	h.pitboss("cancel", id).want(t, 64, "UNKNOWN_CALL: call "+id+" has ended already")
	h.pitboss("explain", "99999").want(t, 64, "UNKNOWN_CALL: no call 99999 is known: the last 10000 outcomes are kept", "restart of the agent")
	h.pitboss("cancel", "x").want(t, 64, `a call's id is a whole number above 0, not "x"`)
	h.pitboss("explain").want(t, 64, "usage: pitboss explain CALL")
	h.pitboss("stack", "defalt-0.1").want(t, 64, `UNKNOWN_WORKER: no worker is named "defalt-0.1"; did you mean "default-`)
	h.pitboss("calls", "--pool", "nowhere").want(t, 64, `UNKNOWN_POOL: no pool is named "nowhere"`)
}
