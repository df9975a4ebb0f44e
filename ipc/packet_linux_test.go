package ipc

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func packetPair(t *testing.T) (a, b int) {
	t.Helper()
	a, b, err := PacketPair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(a); _ = unix.Close(b) })
	return a, b
}

// pipes makes n descriptors to send.
func pipes(t *testing.T, n int) []int {
	t.Helper()
	var fds []int
	for len(fds) < n {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(p[0]); _ = unix.Close(p[1]) })
		fds = append(fds, p[0], p[1])
	}
	return fds[:n]
}

// openFDs counts the descriptors of this process.
func openFDs(t *testing.T) int {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(dir)
}

func TestPacketCarriesBytesAndDescriptors(t *testing.T) {
	for _, n := range []int{0, 1, 2, 6, 9, maxPacketFDs} {
		a, b := packetPair(t)
		sent := pipes(t, n)
		if err := SendPacket(a, []byte("order"), sent); err != nil {
			t.Fatalf("%d descriptors: %v", n, err)
		}
		buf := make([]byte, 64)
		got, fds, err := RecvPacket(b, buf, n)
		if err != nil || string(buf[:got]) != "order" || len(fds) != n {
			t.Fatalf("%d descriptors: received %q with %d: %v", n, buf[:got], len(fds), err)
		}
		for i, fd := range fds {
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			if err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("descriptor %d is not close-on-exec (%v)", i, err)
			}
			if !sameFile(t, fd, sent[i]) {
				t.Errorf("descriptor %d is another file", i)
			}
			_ = unix.Close(fd)
		}
	}
}

func sameFile(t *testing.T, a, b int) bool {
	t.Helper()
	var x, y unix.Stat_t
	if err := errors.Join(unix.Fstat(a, &x), unix.Fstat(b, &y)); err != nil {
		t.Fatal(err)
	}
	return x.Ino == y.Ino && x.Dev == y.Dev
}

func TestPacketBoundariesAndEnd(t *testing.T) {
	a, b := packetPair(t)
	buf := make([]byte, 64)
	if _, _, err := RecvPacket(b, buf, 0); !errors.Is(err, ErrWouldBlock) {
		t.Fatalf("nothing sent: %v", err)
	}
	for _, s := range []string{"one", "two"} {
		if err := SendPacket(a, []byte(s), nil); err != nil {
			t.Fatal(err)
		}
	}
	_ = unix.Shutdown(a, unix.SHUT_WR)
	for _, s := range []string{"one", "two"} {
		n, _, err := RecvPacket(b, buf, 1)
		if err != nil || string(buf[:n]) != s {
			t.Fatalf("received %q, want %q: %v", buf[:n], s, err)
		}
	}
	if _, _, err := RecvPacket(b, buf, 1); err != io.EOF {
		t.Fatalf("after the end: %v", err)
	}
	if err := SendPacket(a, nil, nil); err == nil {
		t.Error("an empty packet was sent; a receiver would take it for the end")
	}
}

func TestSendNeverBlocksAndRaisesNoSignal(t *testing.T) {
	a, b := packetPair(t)
	for i := 0; ; i++ {
		err := SendPacket(a, make([]byte, 256), nil)
		if errors.Is(err, ErrWouldBlock) {
			break
		}
		if err != nil || i > 100_000 {
			t.Fatalf("packet %d to a peer that does not read: %v", i, err)
		}
	}
	_ = unix.Close(b)
	// The peer closed with packets unread: the kernel says so once, and EPIPE from then on.
	for _, want := range []unix.Errno{unix.ECONNRESET, unix.EPIPE, unix.EPIPE} {
		if err := SendPacket(a, []byte("x"), nil); !errors.Is(err, want) {
			t.Fatalf("send to a closed peer: %v, want %v", err, want)
		}
	}
	if err := SendPacket(a, []byte("x"), make([]int, maxPacketFDs+1)); errorCode(err) != "too_large" {
		t.Fatalf("%d descriptors: %v", maxPacketFDs+1, err)
	}
}

// Truncation by a small buffer or by an unexpected descriptor count leaves no descriptor behind. maxFDs 1 is the trap:
// the padded control buffer has room for two, and the kernel then sets no flag.
func TestTruncatedPacketLeaksNothing(t *testing.T) {
	for _, c := range []struct {
		name          string
		send, maxFDs  int
		buf           int
		data, control bool
	}{
		{"bytes", 2, 2, 3, true, false},
		{"no room for any descriptor", 1, 0, 64, false, true},
		{"two for one", 2, 1, 64, false, true},
		{"three for one", 3, 1, 64, false, true},
		{"five for two", 5, 2, 64, false, true},
		{"both", 3, 0, 3, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := packetPair(t)
			sent := pipes(t, c.send)
			before := openFDs(t)
			if err := SendPacket(a, []byte("order"), sent); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, c.buf)
			n, fds, err := RecvPacket(b, buf, c.maxFDs)
			var cut *TruncatedError
			if !errors.As(err, &cut) || cut.Data != c.data || cut.Control != c.control {
				t.Fatalf("got %v", err)
			}
			if fds != nil || !bytes.Equal(buf[:n], []byte("order")[:min(5, c.buf)]) {
				t.Fatalf("received %q with %v", buf[:n], fds)
			}
			if after := openFDs(t); after != before {
				t.Fatalf("%d descriptors open, %d before", after, before)
			}
		})
	}
}

// A receiver at its RLIMIT_NOFILE gets the bytes whole, fewer descriptors and MSG_CTRUNC, never an error of recvmsg.
func TestReceiverOutOfDescriptors(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestReceiverOutOfDescriptorsChild$", "-test.v")
	cmd.Env = append(os.Environ(), "IPC_TEST_NOFILE=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "child saw the truncation") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestReceiverOutOfDescriptorsChild(t *testing.T) {
	if os.Getenv("IPC_TEST_NOFILE") == "" {
		return // only a process of its own may lower its limit
	}
	a, b := packetPair(t)
	sent := pipes(t, 2)
	if err := SendPacket(a, []byte("order"), sent); err != nil {
		t.Fatal(err)
	}
	before := openFDs(t)
	top, err := unix.Dup(0) // the lowest free number
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(top)
	for _, room := range []int{0, 1} {
		limit := unix.Rlimit{Cur: uint64(top + room), Max: uint64(top + room)}
		var old unix.Rlimit
		if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &old); err != nil {
			t.Fatal(err)
		}
		limit.Max = old.Max
		if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 64)
		n, fds, err := RecvPacket(b, buf, 2)
		_ = unix.Prlimit(0, unix.RLIMIT_NOFILE, &old, nil)
		var cut *TruncatedError
		if !errors.As(err, &cut) || !cut.Control || cut.Data || string(buf[:n]) != "order" || fds != nil {
			t.Fatalf("room %d: received %q with %v: %v", room, buf[:n], fds, err)
		}
		if after := openFDs(t); after != before {
			t.Fatalf("room %d: %d descriptors open, %d before", room, after, before)
		}
		if err := SendPacket(a, []byte("order"), sent); err != nil {
			t.Fatal(err)
		}
	}
	t.Log("child saw the truncation, limit " + strconv.Itoa(top))
}

func TestErrorsNameTheCall(t *testing.T) {
	if err := SendPacket(-1, []byte("x"), nil); !errors.Is(err, unix.EBADF) || !strings.HasPrefix(err.Error(), "cannot send packet: ") {
		t.Errorf("send: %v", err)
	}
	if _, _, err := RecvPacket(-1, make([]byte, 1), 0); !errors.Is(err, unix.EBADF) || !strings.HasPrefix(err.Error(), "cannot receive packet: ") {
		t.Errorf("receive: %v", err)
	}
	if _, _, err := RecvPacket(-1, make([]byte, 1), maxPacketFDs+1); errorCode(err) != "too_large" {
		t.Errorf("receive: %v", err)
	}
	if _, err := PeerCred(-1); !errors.Is(err, unix.EBADF) {
		t.Errorf("peer credentials: %v", err)
	}
}

// TestLastWordsOfAPeerThatLeftPacketsUnread: closing with packets unread makes the kernel report ECONNRESET to the other end
// first; what the peer had said before must not be lost for it.
func TestLastWordsOfAPeerThatLeftPacketsUnread(t *testing.T) {
	a, b, err := PacketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(a)
	for _, step := range []error{SendPacket(a, []byte("unread"), nil), SendPacket(b, []byte("first"), nil), SendPacket(b, []byte("last"), nil), unix.Close(b)} {
		if step != nil {
			t.Fatal(step)
		}
	}
	buf := make([]byte, 64)
	for _, want := range []string{"first", "last"} {
		n, _, err := RecvPacket(a, buf, 0)
		if err != nil || string(buf[:n]) != want {
			t.Fatalf("got %q %v, want %q", buf[:n], err, want)
		}
	}
	if _, _, err := RecvPacket(a, buf, 0); err != io.EOF {
		t.Fatalf("got %v, want the end", err)
	}
}
