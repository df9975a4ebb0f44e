package ipc

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCredentialsAreNoDescriptors: what the kernel adds to a packet when the socket asks for it (SO_PASSCRED) is passed over.
func TestCredentialsAreNoDescriptors(t *testing.T) {
	a, b := packetPair(t)
	if err := unix.SetsockoptInt(b, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		t.Fatal(err)
	}
	sent := pipes(t, 2)
	if err := SendPacket(a, []byte("x"), sent); err != nil {
		t.Fatal(err)
	}
	n, fds, err := RecvPacket(b, make([]byte, 8), 16)
	defer closeAll(fds)
	if n != 1 || len(fds) != 2 || err != nil {
		t.Fatalf("%d bytes, descriptors %v, %v", n, fds, err)
	}
	for i := range fds {
		var theirs, ours unix.Stat_t
		if err := errors.Join(unix.Fstat(fds[i], &theirs), unix.Fstat(sent[i], &ours)); err != nil || theirs.Ino != ours.Ino {
			t.Errorf("descriptor %d is another file: %v", i, err)
		}
	}
}

// TestACutControlMessageClosesWhatCame: no descriptor of the whole ones before it stays open.
func TestACutControlMessageClosesWhatCame(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	if fds, err := rights(append(unix.UnixRights(p[1]), 1, 2, 3)); err == nil || fds != nil {
		t.Errorf("%v %v", fds, err)
	}
	// The kernel's word: the pipe has no writer any more.
	poll := []unix.PollFd{{Fd: int32(p[0]), Events: unix.POLLIN}}
	if n, err := unix.Poll(poll, 0); n != 1 || poll[0].Revents&unix.POLLHUP == 0 {
		t.Errorf("the descriptor is open: %d %v", n, err)
	}
}
