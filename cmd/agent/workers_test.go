package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestWorkersShowTheirMemory as the kernel counts it.
func TestWorkersShowTheirMemory(t *testing.T) {
	h := newHost(t)
	h.serve(onePool)
	e := h.pitboss("workers", "--json")
	e.want(t, 0)
	var rows []workerRow
	must(t, json.Unmarshal([]byte(e.stdout), &rows))
	st, _ := h.status()
	if len(rows) == 0 || len(rows) != len(st.Pools[0].Workers) {
		t.Fatalf("%d workers, %d in status", len(rows), len(st.Pools[0].Workers))
	}
	for _, r := range rows {
		kernel := residentBytes(t, r.PID)
		if diff := float64(r.RSSBytes)/float64(kernel) - 1; r.Pool != "default" || diff < -0.1 || diff > 0.1 || r.PSSBytes <= 0 || r.PSSBytes > r.RSSBytes {
			t.Errorf("worker %s of %q: %d and %d bytes, the kernel says %d", r.ID, r.Pool, r.RSSBytes, r.PSSBytes, kernel)
		}
	}
	lines := strings.Split(strings.TrimSpace(h.pitboss("workers", "--pool", "default").stdout), "\n")
	if len(lines) != len(rows)+1 || !strings.HasPrefix(lines[1], rows[0].ID) || !strings.Contains(lines[1], fmt.Sprint(rows[0].PID)) || !strings.HasSuffix(lines[1], "MiB") {
		t.Errorf("%q", lines)
	}
	h.pitboss("workers", "--pool", "defualt").want(t, 64, `did you mean "default"?`)
}
