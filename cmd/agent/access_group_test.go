package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWhoIsNotInTheGroupIsToldWhichOne: a socket as the service's, of root and one group, says how to come in, whatever is asked.
func TestWhoIsNotInTheGroupIsToldWhichOne(t *testing.T) {
	h := shared(t, "{clients: {groups: [54321]}}")
	for _, line := range []string{"status", "call add a=1 b=2", "call count n=1", "tools", "events -f", "logs", "stop", "health", "wait", "drain"} {
		args := append([]string{"--socket", h.path("pitboss/agent.sock")}, strings.Fields(line)...)
		e := h.finish(as(h.command("pitboss", args...)))
		e.want(t, 77, `cannot reach the agent at "`+h.path("pitboss/agent.sock")+`": permission denied`, "\n  join group \"54321\" (`sudo usermod -aG 54321 nobody`, then log in anew)\n")
		if e.stdout != "" {
			t.Errorf("%s printed %q", line, e.stdout)
		}
	}
	h.finish(as(h.command("pitboss", "--socket", h.path("pitboss/agent.sock"), "status"), others)).want(t, 0)
	// A directory above it that lets nobody through is its owner's.
	must(t, os.Chmod(h.path("pitboss"), 0o700))
	h.finish(as(h.command("pitboss", "--socket", h.path("pitboss/agent.sock"), "status"), others)).want(t, 77,
		`agent.sock": cannot pass through "`+h.path("pitboss")+`": permission denied`, "ask its owner for access")
	must(t, os.Chmod(h.path("pitboss"), 0o711))
}

// TestTheSystemsSocketIsFoundFromALogin: every login has a runtime directory of its own, and that there is no agent in it must not
// hide the service. /run is another one here, in a mount namespace of the client.
func TestTheSystemsSocketIsFoundFromALogin(t *testing.T) {
	h := shared(t, "{clients: {groups: [54321]}}")
	must(t, os.MkdirAll(h.path("run"), 0o755))
	must(t, os.Symlink(h.path("pitboss"), h.path("run/pitboss")))
	must(t, os.MkdirAll(h.path("login"), 0o755))
	must(t, os.WriteFile(h.path("group"), []byte("root:x:0:\nnogroup:x:65534:\npitboss-clients:x:54321:\n"), 0o644))
	client := func(groups string, env ...string) ended {
		c := h.command("unshare", "--mount", "sh", "-c", `mount --bind "$1" /run && mount --bind "$2" /etc/group && exec setpriv --reuid nobody --regid 65534 `+groups+` "$3" tools`,
			"sh", h.path("run"), h.path("group"), filepath.Join(binaries, "pitboss"))
		c.Env = append(append([]string{}, h.env...), env...)
		e := ended{}
		out, err := c.CombinedOutput()
		if e.stderr = string(out); err != nil && c.ProcessState == nil {
			t.Fatal(err)
		}
		e.code = exitCodeOf(c)
		return e
	}
	client("--groups 54321", "XDG_RUNTIME_DIR="+h.path("login")).want(t, 0, "add(a: int, b: int)")
	client("--clear-groups", "XDG_RUNTIME_DIR="+h.path("login")).want(t, 77, `cannot reach the agent at "/run/pitboss/agent.sock"`, "  join group \"pitboss-clients\" (`sudo usermod -aG pitboss-clients nobody`, then log in anew)\n")
	// Who has joined since the login is told that, and not to join.
	must(t, os.WriteFile(h.path("group"), []byte("root:x:0:\nnogroup:x:65534:\npitboss-clients:x:54321:root,nobody\n"), 0o644))
	client("--clear-groups", "XDG_RUNTIME_DIR="+h.path("login")).want(t, 77, `nobody is in group "pitboss-clients" since after this login; log in anew`, "`newgrp pitboss-clients`")
	must(t, os.MkdirAll(h.path("login/pitboss"), 0o755))
	must(t, os.WriteFile(h.path("login/pitboss/agent.sock"), nil, 0o666))
	must(t, os.Chmod(h.path("login/pitboss/agent.sock"), 0o666)) // one of its own comes first
	client("--groups 54321", "XDG_RUNTIME_DIR="+h.path("login")).want(t, 69, h.path("login/pitboss/agent.sock"))
}
