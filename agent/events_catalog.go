package agent

import "strings"

// catalogued is an event that the journal's catalog explains (packaging/catalog): its cause, its effect and what to do next.
type catalogued struct {
	kind *eventKind
	id   string // MESSAGE_ID, see systemd.journal-fields(7): 128 random bits that never change and never serve another event
	when string // which of its emissions are explained, for the documentation; empty for all
	// deserves says so of the fields of one emission, named as the journal names them; nil for all.
	deserves func(fields map[string]string) bool
}

// catalogue is the events that somebody who reads the log must act on. Ordinary ones have no MESSAGE_ID.
var catalogue = []catalogued{
	{kind: agentDied, id: "f19d8007bc5b464e9defc808c47d780c"},
	{kind: agentIdle, id: "ca224865f1a745da8f30fc3a06e9a54c"},
	{kind: agentReloadFailed, id: "b5093d9b5fad4b11ac92319c2fa747c1"},
	{kind: watchdogLost, id: "2734032bd0c4426cbbdb469eb22e2dfa"},
	{kind: watchdogSilent, id: "6a6f39262a9b434aa52874b7ae666cfc"},
	{kind: poolState, id: "12b447f344404000a8b116bac01afe0a", when: "when it failed", deserves: poolFailedNow},
	{kind: limitNotEnforced, id: "0faa058f41644282853c3a35e40145bd"},
	{kind: workerExited, id: "f7bc24fbfb8845528e8ffd3dd65a4d4e", when: "when nobody ordered it, a call ended with it, or there is evidence", deserves: diedBadly},
	{kind: workerReleaseOverdue, id: "08e202d25d2944bd8683297bc0a383d3"},
	{kind: workerStartFailed, id: "088ab0ea3ee745c49b16ae6d5314b0f7"},
}

// messageID is the MESSAGE_ID of a line with these fields; empty for a line that the catalog does not explain.
func messageID(fields map[string]string) string {
	for _, c := range catalogue {
		if c.kind.name == fields["PITBOSS_EVENT"] && (c.deserves == nil || c.deserves(fields)) {
			return c.id
		}
	}
	return ""
}

func poolFailedNow(fields map[string]string) bool { return fields["PITBOSS_TO"] == string(poolFailed) }

// diedBadly tells deaths from what recycling, scaling and stopping do all day. PostMortem.Cause puts whoever ordered an end in
// parentheses behind it.
func diedBadly(fields map[string]string) bool {
	end := fields["PITBOSS_END"]
	ordered := strings.HasSuffix(end, ")") || end == "exited with code 0"
	return !ordered || fields["PITBOSS_CALL"] != "" || fields["PITBOSS_EVIDENCE"] != ""
}

// catalogNote is the line of docs/events.md about an event that the catalog explains; empty for another.
func catalogNote(k *eventKind) string {
	for _, c := range catalogue {
		if c.kind != k {
			continue
		}
		when := ""
		if c.when != "" {
			when = " " + c.when
		}
		return "`journalctl -x` explains it" + when + ": `MESSAGE_ID=" + c.id + "`.\n\n"
	}
	return ""
}
