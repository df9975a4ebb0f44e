package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestCommandsOfALivingAgent: everything that looks at an agent or calls it.
func TestCommandsOfALivingAgent(t *testing.T) {
	h := newHost(t)
	s := h.serve(onePool)
	must(t, os.WriteFile(h.path("bytes.bin"), bytes.Repeat([]byte{0, 255}, 500), 0o644))
	for _, c := range []struct{ args, stdout string }{
		{"call add a=1 b=2", "3\n"},
		{"call default/add a=1 b=2", "3\n"},
		{"call --pool default add a=1 b=2", "3\n"},
		{`call add {"a":1,"b":2}`, "3\n"},
		{"call size data=@bytes.bin", "{\n  \"size\": 1000,\n  \"name\": \"x\"\n}\n"},
		{"call size data=abc name=1", "{\n  \"size\": 3,\n  \"name\": \"1\"\n}\n"},
		{"call count n=3", "{\"i\":0}\n{\"i\":1}\n{\"i\":2}\n"},
		{"call zeros n=5", "\"<5 bytes>\"\n"},
		{"--json call zeros n=5", "{\"$part\":0}\n"},
		{"call --out zeros.bin zeros n=5", ""},
		{"version", "pitboss 0.1.0 ("},
	} {
		e := h.pitboss(strings.Fields(c.args)...)
		if e.code != 0 || !strings.HasPrefix(e.stdout, c.stdout) || (c.args != "version" && e.stdout != c.stdout) {
			t.Errorf("%s: %+v", c.args, e)
		}
	}
	if data, err := os.ReadFile(h.path("zeros.bin")); err != nil || len(data) != 5 {
		t.Errorf("--out wrote %d bytes: %v", len(data), err)
	}
	h.pitboss("call", "--out", "x", "add", "a=1", "b=2").want(t, 1, "the result is not bytes")
	stdin := h.command("pitboss", "call", "add", "-")
	stdin.Stdin = strings.NewReader(`{"a": 1, "b": 2}`)
	if e := h.finish(stdin); e.stdout != "3\n" {
		t.Errorf("%+v", e)
	}
	if e := h.pitboss("tools"); !strings.Contains(e.stdout, "default/add(a: int, b: int)\n    The sum of two whole numbers.\n") || !strings.Contains(e.stdout, "default/count(n: int)  (stream)\n") {
		t.Errorf("%+v", e)
	}
	if e := h.pitboss("tools", "--schema"); !strings.Contains(e.stdout, `"required": ["a", "b"]`) {
		t.Errorf("%+v", e)
	}
	var tools []struct{ Name string }
	if e := h.pitboss("tools", "--json"); json.Unmarshal([]byte(e.stdout), &tools) != nil || len(tools) < 8 {
		t.Errorf("%+v", e)
	}
	st, _ := s.status()
	worker := st.Pools[0].Workers[0].ID
	if e := h.pitboss("ping", worker); !strings.Contains(e.stdout, worker+" (pid ") || !strings.Contains(e.stdout, "healthy, 0 calls in flight") {
		t.Errorf("%+v", e)
	}
	if e := h.pitboss("status"); !strings.Contains(e.stdout, "pool default: ready, 1 of 1 ready") || !strings.Contains(e.stdout, "tier tree") {
		t.Errorf("%+v", e)
	}
	h.pitboss("stop").want(t, 0)
	if code := s.exit(); code != 0 {
		t.Errorf("exit code %d: %s", code, s.log())
	}
}
