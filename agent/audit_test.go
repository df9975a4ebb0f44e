package agent

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestRefusalsDoNotFillTheEvents: one event a second for each user and method, and none of the rest is lost from the count.
func TestRefusalsDoNotFillTheEvents(t *testing.T) {
	a := newAudit(nil)
	now := time.Now()
	alice, bob := refuser{1001, "Stop"}, refuser{1002, "Stop"}
	told := int64(0)
	for i := range 1000 {
		if n := a.due(alice, now.Add(time.Duration(i)*time.Millisecond)); n > 0 {
			told++
		}
	}
	if told != 1 {
		t.Errorf("%d events within a second", told)
	}
	if n := a.due(bob, now); n != 1 {
		t.Errorf("another user's first refusal stands for %d", n)
	}
	if n := a.due(refuser{1001, "Reload"}, now); n != 1 {
		t.Errorf("another method's first refusal stands for %d", n)
	}
	if n := a.due(alice, now.Add(refusalAuditPause)); n != 1000 { // 999 that were held back, and this one
		t.Errorf("the next event stands for %d refusals, want 1000", n)
	}
	for uid := range uint32(3 * maxRefusers) {
		a.due(refuser{uid, "Scale"}, now.Add(refusalAuditPause))
	}
	if len(a.refusals) > maxRefusers {
		t.Errorf("%d users are remembered", len(a.refusals))
	}
	if n := a.due(refuser{5 * maxRefusers, "Scale"}, now.Add(3*refusalAuditPause)); n != 1 || len(a.refusals) > maxRefusers {
		t.Errorf("after a pause a new user's refusal stands for %d, with %d remembered", n, len(a.refusals))
	}
}

// TestOnlyAdminsOrdersAreOnRecord, and a method that nobody has thought of is one.
func TestOnlyAdminsOrdersAreOnRecord(t *testing.T) {
	for method, want := range map[string]bool{
		"/pitboss.v1.Admin/Stop": true, "/pitboss.v1.Admin/CancelCall": true, "/pitboss.v1.Admin/New": true,
		"/pitboss.v1.Admin/Status": false, "/pitboss.v1.Pool/Call": false, "/pitboss.v1.Admin/ListCalls": false,
	} {
		if audited(method) != want {
			t.Errorf("%s is on record: %t", method, !want)
		}
	}
	for want, err := range map[string]error{"ok": nil, "UNKNOWN_POOL": statusOf(failf(UnknownPool, "no")), "Unimplemented": status.Error(codes.Unimplemented, "no")} {
		if got := outcomeOf(err); got != want {
			t.Errorf("%v has the outcome %q", err, got)
		}
	}
}
