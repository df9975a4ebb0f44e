package ipc

import (
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPeerGroups: what the kernel says of the pair's maker is what it says of this process, also for more groups than fit at first.
func TestPeerGroups(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	want, err := unix.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	groups, err := PeerGroups(pair[0])
	var got []int
	for _, g := range groups {
		got = append(got, int(g))
	}
	if err != nil || !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		t.Errorf("%v %v, want %v", got, err, want)
	}
	if file, err := os.Open(os.DevNull); err == nil {
		defer file.Close()
		if _, err := PeerGroups(int(file.Fd())); err == nil {
			t.Error("a file has a peer")
		}
	}
	const inner = "PITBOSS_TEST_MANY_GROUPS"
	if os.Getenv(inner) != "" {
		if len(groups) != 200 {
			t.Errorf("%d groups", len(groups))
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Fatal("run this test as root: it starts itself with other groups")
	}
	many := make([]uint32, 200)
	for i := range many {
		many[i] = uint32(40000 + i)
	}
	c := exec.Command(os.Args[0], "-test.run=^TestPeerGroups$")
	c.Env = append(os.Environ(), inner+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Groups: many}}
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
