package agent

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/pitboss-run/pitboss/ipc"
	pb "github.com/pitboss-run/pitboss/proto/pitboss/v1"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// TestEveryMethodHasARole walks every RPC of the API and every one that the server has beside it.
func TestEveryMethodHasARole(t *testing.T) {
	served := map[string]bool{}
	server := newServer(nil, &access{}, newAPIMemory(1<<30, slog.New(slog.DiscardHandler)))
	for service, info := range server.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			served["/"+service+"/"+m.Name] = true
		}
	}
	declared := 0
	for _, file := range []protoreflect.FileDescriptor{pb.File_pitboss_v1_pool_proto, pb.File_pitboss_v1_admin_proto} {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				declared++
				if name := "/" + string(service.FullName()) + "/" + string(service.Methods().Get(j).Name()); !served[name] {
					t.Errorf("%s is declared and not served", name)
				}
			}
		}
	}
	if declared < 15 {
		t.Errorf("only %d methods were found", declared)
	}
	for name := range served {
		if methodRoles[name]&roleAdmin == 0 {
			t.Errorf("%s has no role in methodRoles, or none that admins have", name)
		}
	}
	for name := range methodRoles {
		if !served[name] {
			t.Errorf("methodRoles names %s, which is not served", name)
		}
	}
}

// TestAccessDecides over every kind of peer and every method.
func TestAccessDecides(t *testing.T) {
	a, err := lookUpLists(AccessConfig{
		Clients: AccessList{Users: []string{"20001"}, Groups: []string{"30001"}},
		Viewers: AccessList{Groups: []string{"30002"}},
		Admins:  AccessList{Users: []string{"20003"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	a.own = 20000
	peers := []struct {
		cred peerCredentials
		is   role
	}{
		{peerCredentials{Cred: ipc.Cred{UID: 0, GID: 9}}, anyRole},
		{peerCredentials{Cred: ipc.Cred{UID: 20000, GID: 9}}, anyRole},
		{peerCredentials{Cred: ipc.Cred{UID: 20001, GID: 9}}, roleClient},
		{peerCredentials{Cred: ipc.Cred{UID: 9, GID: 30001}}, roleClient},
		{peerCredentials{Cred: ipc.Cred{UID: 9, GID: 9}, Groups: []uint32{1, 30001}}, roleClient},
		{peerCredentials{Cred: ipc.Cred{UID: 9, GID: 30002}}, roleViewer},
		{peerCredentials{Cred: ipc.Cred{UID: 9, GID: 30002}, Groups: []uint32{30001}}, roleViewer | roleClient},
		{peerCredentials{Cred: ipc.Cred{UID: 20003, GID: 9}}, roleAdmin},
		{peerCredentials{Cred: ipc.Cred{UID: 9, GID: 9, PID: 1}}, 0},
		{peerCredentials{Cred: ipc.Cred{UID: 30001, GID: 20001}}, 0}, // a user's number is no group's
	}
	for _, p := range peers {
		if got := a.roles(p.cred); got != p.is {
			t.Errorf("%+v has %s, want %s", p.cred, got, p.is)
		}
		for method, need := range methodRoles {
			e := a.decide(p.cred, method)
			if allowed := p.is&need != 0; allowed != (e == nil) {
				t.Errorf("%s by a %q: %v", method, p.is, e)
			}
			if e != nil && (e.Reason != PermissionDenied || e.MayHaveRun || !strings.Contains(e.Message, "access.admins")) {
				t.Errorf("%+v", e)
			}
		}
		if e := a.decide(p.cred, "/pitboss.v1.Admin/New"); (e == nil) != (p.is&roleAdmin != 0) {
			t.Errorf("an unlisted method by a %q: %v", p.is, e)
		}
	}
	e := a.decide(peerCredentials{Cred: ipc.Cred{UID: 9, GID: 30002}}, "/pitboss.v1.Pool/Call")
	for _, text := range []string{"Call needs the role client or admin", "user 9 is viewer", `"30001"`, "access.clients", "access.admins"} {
		if !strings.Contains(e.Message, text) {
			t.Errorf("%q is not in %q", text, e.Message)
		}
	}
}

// TestSocketGroup: one group and nobody else is what a file's mode can say.
func TestSocketGroup(t *testing.T) {
	for _, c := range []struct {
		config AccessConfig
		shared bool
		group  string
	}{
		{AccessConfig{}, false, ""},
		{AccessConfig{Clients: AccessList{Groups: []string{"30001"}}}, true, "30001"},
		{AccessConfig{Clients: AccessList{Groups: []string{"30001"}}, Admins: AccessList{Users: []string{"0"}}}, true, "30001"},
		{AccessConfig{Clients: AccessList{Groups: []string{"30001"}}, Viewers: AccessList{Groups: []string{"30001"}}}, true, "30001"},
		{AccessConfig{Clients: AccessList{Groups: []string{"30001"}}, Viewers: AccessList{Groups: []string{"30002"}}}, true, ""},
		{AccessConfig{Clients: AccessList{Groups: []string{"30001"}, Users: []string{"20001"}}}, true, ""},
		{AccessConfig{Admins: AccessList{Users: []string{"20001"}}}, true, ""},
	} {
		group, ok := c.config.socketGroup()
		if c.config.Shared() != c.shared || group != c.group && ok || ok != (c.group != "") {
			t.Errorf("%+v: shared %t, group %q %t", c.config, c.config.Shared(), group, ok)
		}
	}
	unknown := AccessConfig{Clients: AccessList{Users: []string{"no-such-user"}}, Admins: AccessList{Groups: []string{"no-such-group"}}}
	top := &checker{}
	unknown.check(top)
	if len(top.faults) != 2 || !slices.ContainsFunc(top.faults, func(f Fault) bool { return f.Key == "access.clients.users[0]" }) {
		t.Errorf("%v", top.faults)
	}
	if _, err := lookUpLists(unknown); err == nil {
		t.Error("an unknown user was taken")
	}
}
