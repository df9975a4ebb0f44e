package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Host is where the scenarios run, and with which binary.
type Host struct {
	Binary string `json:"-"` // of pitboss; its watchdog lies beside it
	Python string `json:"-"` // interpreter, an absolute path
	Root   bool   `json:"root"`
	User   string `json:"user"`
	CPUs   int    `json:"cpus"`
	Kernel string `json:"kernel"`
	Arch   string `json:"arch"`
	Cgroup string `json:"cgroup"` // v2, v1, hybrid or none
	// Own says that the whole host may be harmed.
	Own bool `json:"whole_host"`
	// OwnCgroup says that a cgroup of version 2 can be made below our own.
	OwnCgroup bool `json:"own_cgroup"`
}

// NewHost looks at this host. What python names may be a wrapper, as those of pyenv are; the scenarios use the interpreter itself,
// because wrappers have needs of their own that a lesser kernel does not meet.
func NewHost(binary, python string) (*Host, error) {
	own, err := exec.Command(python, "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		return nil, fmt.Errorf("cannot run the interpreter %q: %w", python, err)
	}
	h := &Host{Binary: binary, Python: strings.TrimSpace(string(own)), Root: os.Geteuid() == 0, User: itoa(os.Geteuid()), CPUs: runtime.NumCPU(), Arch: runtime.GOARCH, Cgroup: cgroups()}
	if u, err := user.Current(); err == nil {
		h.User = u.Username
	}
	if dir := newCgroup(fmt.Sprintf("%016x", rand.Uint64())); dir != "" {
		h.OwnCgroup = os.Remove(dir) == nil
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		h.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	return h, nil
}

// NeedsRoot is a Scenario.Cannot.
func NeedsRoot(h *Host) string {
	if h.Root {
		return ""
	}
	return "needs root"
}

// NeedsCgroup is a Scenario.Cannot.
func NeedsCgroup(h *Host) string {
	if h.OwnCgroup {
		return ""
	}
	return "needs a cgroup v2 below its own that it may write: run it as root, or with systemd-run --user --scope -p Delegate=yes"
}

// cgroups names the hierarchies that are mounted (cgroups(7)).
func cgroups() string {
	mounts, _ := os.ReadFile("/proc/self/mounts")
	one, two := false, false
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 {
			one, two = one || f[2] == "cgroup", two || f[2] == "cgroup2"
		}
	}
	switch {
	case one && two:
		return "hybrid"
	case two:
		return "v2"
	case one:
		return "v1"
	}
	return "none"
}
