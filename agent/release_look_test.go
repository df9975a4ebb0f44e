package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func fmtPort(a portAddress) string { return fmt.Sprintf("%s %d %v", a.ip, a.port, a.udp) }

// socketOf makes a socket as a worker would: what it is bound to, and what else was set before.
func socketOf(t *testing.T, to unix.Sockaddr, kind int, options ...int) (fd int, port uint16) {
	t.Helper()
	family := unix.AF_INET
	if _, six := to.(*unix.SockaddrInet6); six {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	for _, option := range options {
		must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1))
	}
	must(t, unix.Bind(fd, to))
	name, err := unix.Getsockname(fd)
	must(t, err)
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		port = uint16(name.Port)
	case *unix.SockaddrInet6:
		port = uint16(name.Port)
	}
	return fd, port
}

func listening(t *testing.T, to unix.Sockaddr, options ...int) uint16 {
	t.Helper()
	fd, port := socketOf(t, to, unix.SOCK_STREAM, options...)
	must(t, unix.Listen(fd, 5))
	return port
}

// TestAPortIsFreeWhenAWorkerCanBindIt has each way in which a port is held, by a socket of each family; the control beside each is the
// same port when the socket is gone.
func TestAPortIsFreeWhenAWorkerCanBindIt(t *testing.T) {
	loopback4, loopback6 := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}, &unix.SockaddrInet6{Addr: [16]byte{15: 1}}
	for name, c := range map[string]struct {
		port   func(t *testing.T) uint16
		udp    bool
		reuse  bool // held for who binds with SO_REUSEADDR
		strict bool // held for who does not
	}{
		"listens at any IPv4 address": {func(t *testing.T) uint16 { return listening(t, &unix.SockaddrInet4{}) }, false, true, true},
		"listens at any IPv6 address": {func(t *testing.T) uint16 { return listening(t, &unix.SockaddrInet6{}) }, false, true, true},
		"listens at 127.0.0.1":        {func(t *testing.T) uint16 { return listening(t, loopback4) }, false, true, true},
		"listens at ::1":              {func(t *testing.T) uint16 { return listening(t, loopback6) }, false, true, true},
		"listens, both options":       {func(t *testing.T) uint16 { return listening(t, loopback4, unix.SO_REUSEADDR, unix.SO_REUSEPORT) }, false, true, true},
		"bound, does not listen":      {func(t *testing.T) uint16 { _, p := socketOf(t, loopback4, unix.SOCK_STREAM); return p }, false, true, true},
		"bound with SO_REUSEADDR": {func(t *testing.T) uint16 {
			_, p := socketOf(t, loopback4, unix.SOCK_STREAM, unix.SO_REUSEADDR)
			return p
		}, false, false, true},
		"a connection is left": {func(t *testing.T) uint16 { return leftConnection(t, false) }, false, false, true},
		"TIME_WAIT is left":    {func(t *testing.T) uint16 { return leftConnection(t, true) }, false, false, true},
		"a datagram socket": {func(t *testing.T) uint16 {
			_, p := socketOf(t, loopback4, unix.SOCK_DGRAM, unix.SO_REUSEADDR)
			return p
		}, true, true, true},
		"a datagram socket, asked for TCP": {func(t *testing.T) uint16 { _, p := socketOf(t, loopback4, unix.SOCK_DGRAM); return p },
			false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			var port uint16
			t.Run("held", func(t *testing.T) {
				port = c.port(t)
				for reuse, want := range map[bool]bool{true: c.reuse, false: c.strict} {
					a := portAddress{port: port, udp: c.udp}
					if err := tryPort(a, reuse); errors.Is(err, errHeld) != want || (err != nil && !errors.Is(err, errHeld)) {
						t.Errorf("SO_REUSEADDR %v: %v, want held: %v", reuse, err, want)
					}
					if by := portHolder(a); want && name != "TIME_WAIT is left" && !strings.HasPrefix(name, "bound") && !strings.Contains(by, fmt.Sprintf("pid %d (", os.Getpid())) {
						t.Errorf("held by %q, want this process", by)
					}
				}
			})
			if err := tryPort(portAddress{port: port, udp: c.udp}, true); err != nil {
				t.Errorf("when it was gone: %v", err)
			}
		})
	}
}

// leftConnection is the port of a server that is gone while one of its connections lives on, or lingers in TIME_WAIT.
func leftConnection(t *testing.T, lingers bool) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0") // with SO_REUSEADDR, as Go always does
	must(t, err)
	far, err := net.Dial("tcp4", l.Addr().String())
	must(t, err)
	near, err := l.Accept()
	must(t, err)
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	must(t, l.Close())
	if lingers {
		must(t, near.Close()) // who closes first is in TIME_WAIT
		if _, err := far.Read(make([]byte, 1)); err == nil {
			t.Fatal("the connection is not closed")
		}
		must(t, far.Close())
		return port
	}
	t.Cleanup(func() { _, _ = far.Close(), near.Close() })
	return port
}

// A look is seen by nobody: who connects meanwhile is refused as before, and no listener gets a connection.
func TestALookAtAPortOfAnAddress(t *testing.T) {
	port := listening(t, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	here, err := parsePort("127.0.0.1:" + strconv.Itoa(int(port)))
	must(t, err)
	elsewhere, err := parsePort("127.0.0.2:" + strconv.Itoa(int(port)))
	must(t, err)
	if err := tryPort(here, true); !errors.Is(err, errHeld) {
		t.Errorf("at its own address: %v", err)
	}
	if err := tryPort(elsewhere, true); err != nil {
		t.Errorf("at another address: %v", err)
	}
	foreign, err := parsePort("203.0.113.1:80") // TEST-NET-3: no host has it
	must(t, err)
	if err := tryPort(foreign, true); err == nil || errors.Is(err, errHeld) {
		t.Errorf("at an address that this host has not: %v", err)
	}
}

// pythonHolder runs code that takes something, prints a line and waits for the end of its standard input. release ends it.
func pythonHolder(t *testing.T, code string, args ...string) (pid int, release func()) {
	t.Helper()
	c := exec.Command(interpreterPath(t), append([]string{"-c", code + "\nprint('held', flush=True)\nsys.stdin.read()"}, args...)...)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	must(t, err)
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	ended := false
	release = func() {
		if !ended {
			ended = true
			_ = in.Close()
			_ = c.Wait()
		}
	}
	t.Cleanup(release)
	if _, err := io.ReadFull(out, make([]byte, 5)); err != nil {
		t.Fatalf("the holder did not get it: %v", err)
	}
	return c.Process.Pid, release
}

func interpreterPath(t *testing.T) string {
	t.Helper()
	py, err := findInterpreter("", t.TempDir(), os.Getenv)
	must(t, err)
	return py.path
}

const (
	takesFlock = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX)"
	takesShare = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_SH)"
	takesFcntl = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX, 1, 100)"
	takesOpen  = "import fcntl, struct, sys; f = open(sys.argv[1], 'a'); fcntl.fcntl(f, 37, struct.pack('hhqqi', fcntl.F_WRLCK, 0, 0, 0, 0))" // F_OFD_SETLK
	// The parent that took it dies, and a child of another session keeps it.
	leavesFlock = "import fcntl, os, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX)\nif os.fork(): os._exit(0)\nos.setsid()"
	bindsSocket = "import socket, sys; s = socket.socket(socket.AF_UNIX, getattr(socket, sys.argv[2])); s.bind(sys.argv[1].replace('@', chr(0)))"
)

// TestALockFileIsFreeWhenAWorkerCanLockIt has each kind of lock, taken by a real process.
func TestALockFileIsFreeWhenAWorkerCanLockIt(t *testing.T) {
	for name, code := range map[string]string{"flock": takesFlock, "shared flock": takesShare, "fcntl, one byte": takesFcntl, "fcntl of the open file": takesOpen} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "lock")
			if err := tryFile(file); err != nil {
				t.Errorf("a file that is not there: %v", err)
			}
			write(t, file, "", 0o600)
			if err := tryFile(file); err != nil {
				t.Errorf("before: %v", err)
			}
			pid, release := pythonHolder(t, code, file)
			for range 3 {
				if err := tryFile(file); !errors.Is(err, errHeld) {
					t.Errorf("while it is held: %v", err)
				}
			}
			if by := fileHolder(file); !strings.HasPrefix(by, fmt.Sprintf("pid %d (python", pid)) || strings.Contains(by, ",") {
				t.Errorf("held by %q, want only process %d", by, pid)
			}
			release()
			if err := tryFile(file); err != nil {
				t.Errorf("after: %v", err)
			}
			_, again := pythonHolder(t, strings.ReplaceAll(code, "LOCK_EX", "LOCK_EX|fcntl.LOCK_NB"), file) // nothing of the looks is left
			again()
		})
	}
}

// TestAnInheritedLockOutlivesItsTaker: who took the lock is dead and reaped, and its child holds it all the same.
func TestAnInheritedLockOutlivesItsTaker(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	taker, release := pythonHolder(t, leavesFlock, file)
	await(t, 10*time.Second, "dead", func() bool { return !lives(taker) })
	if err := tryFile(file); !errors.Is(err, errHeld) {
		t.Errorf("while its child has it: %v", err)
	}
	by := fileHolder(file)
	if !strings.HasPrefix(by, "pid ") || strings.HasPrefix(by, fmt.Sprintf("pid %d ", taker)) {
		t.Errorf("held by %q, want the child of %d", by, taker)
	}
	release()
	await(t, 10*time.Second, "free", func() bool { return tryFile(file) == nil })
}

func TestAUnixSocketIsFreeWhenNobodyHasBoundIt(t *testing.T) {
	for _, kind := range []string{"SOCK_STREAM", "SOCK_DGRAM", "SOCK_SEQPACKET"} {
		t.Run(kind, func(t *testing.T) {
			for _, name := range []string{filepath.Join(t.TempDir(), "s"), "@pitboss-test-" + strconv.Itoa(os.Getpid()) + kind} {
				if err := tryFile(name); err != nil {
					t.Errorf("%s before: %v", name, err)
				}
				pid, release := pythonHolder(t, bindsSocket, name, kind)
				if err := tryFile(name); !errors.Is(err, errHeld) {
					t.Errorf("%s while it is bound: %v", name, err)
				}
				if by := fileHolder(name); !strings.HasPrefix(by, fmt.Sprintf("pid %d (python", pid)) {
					t.Errorf("%s is held by %q, want process %d", name, by, pid)
				}
				release()
				if err := tryFile(name); err != nil { // the file is still there
					t.Errorf("%s after: %v", name, err)
				}
			}
		})
	}
}

// A listener sees nothing of a look at its socket.
func TestALookAtASocketConnectsToNobody(t *testing.T) {
	name := filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: name}))
	must(t, unix.Listen(fd, 5))
	if err := tryFile(name); !errors.Is(err, errHeld) {
		t.Fatal(err)
	}
	if _, _, err := unix.Accept(fd); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("the listener got a connection: %v", err)
	}
	c, err := net.Dial("unix", name)
	must(t, err)
	defer c.Close()
	if nfd, _, err := unix.Accept(fd); err != nil { // the control
		t.Errorf("a real connection: %v", err)
	} else {
		_ = unix.Close(nfd)
	}
}

func TestWhatIsNeitherLockNorSocketIsNotOpened(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "pipe")
	must(t, unix.Mkfifo(fifo, 0o600))
	for _, name := range []string{fifo, "/dev/null"} {
		if err := tryFile(name); err == nil || errors.Is(err, errHeld) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// fakeGPU puts a nvidia-smi first on the path that prints what its files say: apps and free, each for every GPU.
func fakeGPU(t *testing.T, body string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if body == "" {
		body = `case "$2" in *compute-apps*) cat "$0.apps";; *memory.free*) cat "$0.free";; esac`
	}
	write(t, filepath.Join(dir, gpuQuery), "#!/bin/sh\necho \"$@\" >> \"$0.asked\"\n"+body+"\n", 0o700)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return filepath.Join(dir, gpuQuery)
}

func TestAGPUIsFreeWhenNoDeadProcessHoldsItsMemory(t *testing.T) {
	smi := fakeGPU(t, "")
	dead, release := pythonHolder(t, "import sys")
	release()
	a := startTestAgent(t, versioned("1"), nil)
	waitReady(t, a)
	look := func(known map[int]bool, memory Size) ([]hold, map[int]bool) {
		l := resourceLook{ctx: context.Background(), pool: a.allPools()[0], resources: []resource{{kind: resourceGPU, name: "3"}}, apps: known, gpuMemory: memory, pidsMatch: true}
		return l.run()
	}
	apps := func(lines ...string) { write(t, smi+".apps", strings.Join(lines, "\n"), 0o600) }
	write(t, smi+".free", "2048\n", 0o600)
	apps(fmt.Sprintf("%d, 300", os.Getpid()))
	if held, seen := look(nil, 0); len(held) != 0 || !seen[os.Getpid()] {
		t.Errorf("used by who lives: %v %v", held, seen)
	}
	apps(fmt.Sprintf("%d, 300", os.Getpid()), fmt.Sprintf("%d, 4096", dead))
	want := fmt.Sprintf("gpu 3 (pid %d, which is dead, has 4096 MiB)", dead)
	if held, _ := look(nil, 0); len(held) != 1 || held[0].String() != want {
		t.Errorf("%v, want %s", held, want)
	}
	if held, _ := look(map[int]bool{dead: true}, 0); len(held) != 0 {
		t.Errorf("by who was there before the worker: %v", held)
	}
	apps()
	if held, _ := look(nil, 0); len(held) != 0 {
		t.Errorf("used by nobody: %v", held)
	}
	if held, _ := look(nil, 4<<30); len(held) != 1 || held[0].String() != "gpu 3 (2048 MiB are free)" {
		t.Errorf("too little is free: %v", held)
	}
	if held, _ := look(nil, 2<<30); len(held) != 0 {
		t.Errorf("enough is free: %v", held)
	}
	apps("No devices were found")
	if held, _ := look(nil, 0); len(held) != 1 || !strings.Contains(held[0].by, "cannot tell: nvidia-smi lists a process that is no number") {
		t.Errorf("an answer that cannot be read: %v", held)
	}
	if asked := contents(t, smi+".asked"); !strings.Contains(asked, "--id=3 --query-compute-apps=pid,used_memory --format=csv,noheader,nounits") {
		t.Errorf("asked %s", asked)
	}
	fakeGPU(t, "echo NVIDIA-SMI has failed; exit 9")
	if held, _ := look(nil, 0); len(held) != 1 || !strings.Contains(held[0].by, "cannot tell: nvidia-smi") || !strings.Contains(held[0].by, "NVIDIA-SMI has failed") {
		t.Errorf("a failure: %v", held)
	}
	if left := listChildren(os.Getpid()); len(left) != 1 {
		t.Errorf("children %v besides the launcher", left)
	}
}
