package main

import (
	"os"
	"strings"
	"testing"
)

// TestWhatCannotBeSent: a pool says what happens to a result that the wire cannot say.
func TestWhatCannotBeSent(t *testing.T) {
	h := newHost(t)
	pools := strings.Replace(onePool, "name: default", "name: strict", 1) + `
  - name: marking
    adapter: tools.py
    workers: 1
    serialization: markers
    timeouts: {kill: 300ms, drain: 5s}
`
	h.serve(pools)
	h.pitboss("call", "strict/moment").want(t, 1, `TOOL_RAISED: tool "moment" raised TypeError: result["seen"]: set is not a value pitboss can send`)
	if e := h.pitboss("--json", "call", "marking/moment"); e.code != 0 || e.stdout != `{"day":"2026-01-02","seen":{"$type":"set","repr":"{1}"}}`+"\n" {
		t.Errorf("%+v", e)
	}
	must(t, os.WriteFile(h.path("bad.yaml"), []byte(onePool+"    serialization: pickle\n"), 0o644))
	h.pitboss("config", "check", "bad.yaml").want(t, 78, "bad.yaml:8:20: pools[0].serialization", `"pickle" is not known; it must be one of ["strict" "markers"]`)
}
