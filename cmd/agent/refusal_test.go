package main

import (
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestWhatAProgramReads: the JSON of the commands that print few lines, from a living agent.
func TestWhatAProgramReads(t *testing.T) {
	h := newHost(t)
	s := h.serve(strings.Replace(onePool, "name: default", "name: default\n    env: {TOKEN: hush}", 1))
	st, _ := s.status()
	worker := st.Pools[0].Workers[0].ID
	c := h.command("pitboss", "call", "nap", "seconds=600", "file=begun")
	must(t, c.Start())
	h.awaitFile("begun")
	var calls []struct{ Call uint64 }
	if e := h.pitboss("calls", "--json"); json.Unmarshal([]byte(e.stdout), &calls) != nil || len(calls) != 1 {
		t.Fatalf("%+v", e)
	}
	id, err := json.Marshal(calls[0].Call)
	must(t, err)
	for _, q := range []struct{ args, want string }{
		{"ping " + worker, `"` + worker + `"`},
		{"version", `"protocol": `},
		{"version --python-path", `"python_path": "` + h.dir},
		{"explain " + string(id), `"state": "running"`},
		{"cancel " + string(id), `"ended_by": "kill"`},
		{"config show --config pitboss.yaml", `"origins": {`},
		{"config show --config pitboss.yaml --show-env", `"hush"`},
	} {
		e := h.pitboss(append([]string{"--json"}, strings.Fields(q.args)...)...)
		if e.code != 0 || !json.Valid([]byte(e.stdout)) || !strings.Contains(e.stdout, q.want) {
			t.Errorf("%s: %+v", q.args, e)
		}
	}
	if e := h.pitboss("config", "show", "--config", "pitboss.yaml"); e.code != 0 || strings.Contains(e.stdout, "hush") || !strings.Contains(e.stdout, "TOKEN") {
		t.Errorf("a secret is shown, or nothing: %+v", e)
	}
	_ = c.Wait()
	if code := exitCodeOf(c); code == 0 {
		t.Error("the cancelled call ended well")
	}
}

// as65534 is a command of a user who has nothing here.
func (h *host) as65534(args ...string) ended {
	h.t.Helper()
	c := h.command("pitboss", args...)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return h.finish(c)
}

// TestPlacesOfSomebodyElse refuse with the code for it and name what to do.
func TestPlacesOfSomebodyElse(t *testing.T) {
	h := newHost(t)
	must(t, os.Chmod(h.dir, 0o755))
	h.as65534("new", "greeter").want(t, 77, "cannot write: ", "permission denied", "name another directory with --dir")
	if e := h.as65534("version", "--python-path"); e.code != 77 && e.code != 1 || !strings.Contains(e.stderr, "cannot ") || e.stdout != "" {
		t.Errorf("%+v", e)
	}
	h.pitboss("call", "--pool", "x", "--timeout", "1s", "add").want(t, 69, "no agent at ")
	for _, args := range []string{"calls", "ping w", "stop", "explain 1", "cancel 1", "stack w", "tools", "status", "logs", "events", "reload", "drain"} {
		h.pitboss(strings.Fields(args)...).want(t, 69, "no agent at ", "pitboss agent")
	}
	for _, args := range []string{"explain 0", "cancel x", "explain -1"} {
		h.pitboss(strings.Fields(args)...).want(t, 64)
	}
}
