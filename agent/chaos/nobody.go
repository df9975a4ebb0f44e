package chaos

import (
	"os/exec"
	"syscall"
)

// nobody is the unprivileged user of scenarios that root runs; it needs no entry in passwd.
const nobody = 65534

// asNobody makes a command nobody's.
func asNobody(c *exec.Cmd) *exec.Cmd {
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return c
}

// wordsAsNobody are words before a command that make it nobody's.
func wordsAsNobody() []string {
	return []string{"setpriv", "--reuid", itoa(nobody), "--regid", itoa(nobody), "--clear-groups"}
}

// nobodyRuns says whether nobody may run a command, and it ends well.
func nobodyRuns(command string, args ...string) bool {
	return asNobody(exec.Command(command, args...)).Run() == nil
}

// nobodysPython is an interpreter that nobody may run: the one that was asked for, else the system's; "" without one.
func nobodysPython(h *Host) string {
	for _, python := range []string{h.Python, "/usr/bin/python3", "/usr/local/bin/python3"} {
		if nobodyRuns(python, "-c", "import ctypes, sys; assert sys.version_info >= (3, 9)") {
			return python
		}
	}
	return ""
}
