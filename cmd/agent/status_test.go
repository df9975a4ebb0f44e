package main

import (
	"encoding/json"

	"github.com/pitboss-run/pitboss/agent"
)

// status is `pitboss status --json` of the default socket; ok is false while nobody answers.
func (h *host) status() (st agent.Status, ok bool) {
	h.t.Helper()
	e := h.pitboss("status", "--json")
	return st, e.code == 0 && json.Unmarshal([]byte(e.stdout), &st) == nil
}
