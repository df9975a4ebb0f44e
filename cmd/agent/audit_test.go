package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/pitboss-run/pitboss/agent/client"
)

// The groups of the roles, none of which is in the host's group file: nobody is in them by supplementary groups alone.
const (
	callerGroup = 54321
	viewerGroup = 54322
	adminGroup  = 54323
	alienGroup  = 54324
)

// classOf is one class of methods: what is asked of it, and who may.
type classOf struct {
	lines   []string // W is a worker's id
	allowed []uint32
	ends    int // how an allowed one ends
}

var methodClasses = []classOf{
	{[]string{"call add a=1 b=2", "call count n=2"}, []uint32{callerGroup, adminGroup}, 0},
	{[]string{"tools", "status", "ping W", "health"}, []uint32{callerGroup, viewerGroup, adminGroup}, 0},
	{[]string{"calls", "explain 1", "events", "logs"}, []uint32{viewerGroup, adminGroup}, 0},
	{[]string{"stack W", "scale default 1", "drain", "resume", "reload", "restart --pool default"}, []uint32{adminGroup}, 0},
	{[]string{"cancel 4242", "scale nowhere 1", "restart no-such-worker"}, []uint32{adminGroup}, 64}, // orders that fail
	{[]string{"stop"}, []uint32{adminGroup}, 0},
}

// TestEveryMethodClassByRealUsers: each role by a supplementary group, and a user who has none, with every class of methods; and
// afterwards every order of an admin, and every one that was refused, is on record with who gave it.
func TestEveryMethodClassByRealUsers(t *testing.T) {
	h := shared(t, "{clients: {groups: [54321]}, viewers: {groups: [54322]}, admins: {groups: [54323]}}")
	record, err := os.Create(h.path("record"))
	must(t, err)
	defer record.Close()
	follow := h.command("pitboss", "events", "-f", "--json", "--prefix", "admin.")
	follow.Stdout = record
	follower := h.start(follow)
	run := func(line string, group uint32) ended {
		st, ok := h.status()
		if !ok {
			t.Fatalf("no status before %q", line)
		}
		line = strings.ReplaceAll(line, "W", st.Pools[0].Workers[0].ID)
		return h.finish(as(h.command("pitboss", append([]string{"--socket", h.path("pitboss/agent.sock")}, strings.Fields(line)...)...), group))
	}
	h.pitboss("call", "add", "a=1", "b=2").want(t, 0) // call 1
	for _, class := range methodClasses {
		for _, line := range class.lines {
			allowed := map[uint32]bool{}
			for _, g := range class.allowed {
				allowed[g] = true
			}
			for _, group := range []uint32{alienGroup, callerGroup, viewerGroup, adminGroup} { // who ends it comes last
				if e := run(line, group); allowed[group] {
					if e.want(t, class.ends); t.Failed() {
						t.Fatalf("%q by group %d", line, group)
					}
				} else if e.want(t, 77, "PERMISSION_DENIED", "user 65534", "being in group ", `"54323"`); t.Failed() {
					t.Fatalf("%q by group %d", line, group)
				}
			}
		}
	}
	follower.exit()
	holdsTheRecord(t, read(t, record.Name()))
}

// holdsTheRecord checks the events of that test.
func holdsTheRecord(t *testing.T, text string) {
	t.Helper()
	type order struct {
		Method, User, Pool, Worker, Outcome, Why string
		UID, PID, Call, Count, Workers           int
		TookS                                    float64 `json:"took_s"`
	}
	acted, refused := map[string]order{}, map[string]int{}
	for line := range strings.Lines(text) {
		var e client.Event
		var o order
		must(t, json.Unmarshal([]byte(line), &e))
		must(t, json.Unmarshal(e.Fields, &o))
		if o.UID != nobody || o.User != "nobody" || o.PID <= 1 {
			t.Errorf("%s by somebody else: %s", e.Name, e.Fields)
		}
		if e.Name == "admin.refused" {
			refused[o.Method] += o.Count
			continue
		}
		acted[o.Method+" "+o.Outcome] = o
	}
	for _, method := range []string{"CancelCall", "Stack", "Restart", "Drain", "Resume", "Scale", "Reload", "Stop"} {
		outcome := "ok"
		if method == "CancelCall" {
			outcome = "UNKNOWN_CALL"
		}
		if _, ok := acted[method+" "+outcome]; !ok {
			t.Errorf("%s (%s) is not on record: %v", method, outcome, acted)
		}
		if refused[method] < 1 || refused[method] > 6 { // three users asked, twice at most
			t.Errorf("%d refusals of %s are on record", refused[method], method)
		}
	}
	if o := acted["Scale ok"]; o.Pool != "default" || o.Workers != 1 {
		t.Errorf("%+v", o)
	}
	if o := acted["Scale UNKNOWN_POOL"]; o.Pool != "nowhere" {
		t.Errorf("%+v", o)
	}
	if o := acted["Restart UNKNOWN_WORKER"]; o.Worker != "no-such-worker" {
		t.Errorf("%+v", o)
	}
	if o := acted["CancelCall UNKNOWN_CALL"]; o.Call != 4242 {
		t.Errorf("%+v", o)
	}
	if o := acted["Restart ok"]; o.Pool != "default" || o.TookS <= 0 {
		t.Errorf("%+v", o)
	}
	for _, absent := range []string{"Call", "CallStream", "Status", "Ping", "ListCalls"} {
		if refused[absent] != 0 {
			t.Errorf("%s is no order of admins", absent)
		}
	}
}
