package ipc

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// A socket pair's peer is its maker, also in a child that inherited one end: that is how a supervised child knows that its
// parent made the link.
func TestPeerCredOfAnInheritedPairIsItsMaker(t *testing.T) {
	a, b := packetPair(t)
	for _, fd := range []int{a, b} {
		c, err := PeerCred(fd)
		if err != nil || int(c.PID) != os.Getpid() || int(c.UID) != os.Getuid() || int(c.GID) != os.Getgid() {
			t.Fatalf("%+v: %v", c, err)
		}
	}
	file := os.NewFile(uintptr(b), "link")
	cmd := exec.Command(os.Args[0], "-test.run=^TestPeerCredChild$", "-test.v")
	cmd.Env = append(os.Environ(), "IPC_TEST_PEER=3")
	cmd.ExtraFiles = []*os.File{file}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "peer "+strconv.Itoa(os.Getpid())) {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestPeerCredChild(t *testing.T) {
	fd, err := strconv.Atoi(os.Getenv("IPC_TEST_PEER"))
	if err != nil {
		return // only meant for the child of the test above
	}
	c, err := PeerCred(fd)
	if err != nil || int(c.PID) != os.Getppid() {
		t.Fatalf("%+v, parent %d: %v", c, os.Getppid(), err)
	}
	t.Logf("peer %d", c.PID)
}
