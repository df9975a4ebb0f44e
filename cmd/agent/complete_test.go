package main

import (
	"os/exec"
	"strings"
	"testing"
)

func TestCompletionOfNames(t *testing.T) {
	h := newHost(t)
	for _, args := range [][]string{{"call", ""}, {"ping", ""}, {"tools", "--pool", ""}} { // no agent: silent
		e := h.pitboss(append([]string{"__completeNoDesc"}, args...)...)
		if e.code != 0 || e.stdout != ":4\n" || strings.Contains(e.stderr, "pitboss:") {
			t.Errorf("without an agent %v: %+v", args, e)
		}
	}
	s := h.serve(onePool)
	st, _ := s.status()
	worker := st.Pools[0].Workers[0].ID
	for _, c := range [][]string{{"add", "call", "a"}, {"default", "tools", "--pool", ""}, {worker, "ping", ""}, {worker, "stack", ""},
		{worker, "restart", ""}, {"default", "scale", ""}, {"default", "logs", ""}, {"default", "drain", "--pool", ""}, {"doctor", "doc"}} {
		want, args := c[0]+"\n", c[1:]
		if e := h.pitboss(append([]string{"__completeNoDesc"}, args...)...); e.code != 0 || !strings.Contains("\n"+e.stdout, "\n"+want) {
			t.Errorf("%v: %+v, want %q", args, e, want)
		}
	}
	h.pitboss("stop").want(t, 0)
	s.exit()
}

func TestCompletionScripts(t *testing.T) {
	h := newHost(t)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		e := h.pitboss("completion", shell)
		if e.code != 0 || !strings.Contains(e.stdout, "__complete") {
			t.Errorf("%s: exit code %d, %.200s", shell, e.code, e.stdout)
		}
		if shell == "bash" {
			check := exec.Command("bash", "-n")
			check.Stdin = strings.NewReader(e.stdout)
			if out, err := check.CombinedOutput(); err != nil {
				t.Errorf("bash: %v: %s", err, out)
			}
		}
	}
}
