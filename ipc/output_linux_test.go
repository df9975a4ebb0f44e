package ipc

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOutputNeverWaits on a pipe or a socket that is full, and goes on where there is room again.
func TestOutputNeverWaits(t *testing.T) {
	for name, open := range map[string]func() (r, w int){
		"pipe": func() (int, int) {
			var fds [2]int
			if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			return fds[0], fds[1]
		},
		"socket": func() (int, int) {
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			return fds[0], fds[1]
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, w := open()
			defer unix.Close(r)
			defer unix.Close(w)
			o := NewOutput(w)
			line, written := bytes.Repeat([]byte("x"), 1000), 0
			var err error
			for err == nil {
				var n int
				n, err = o.Write(line)
				written += max(n, 0)
			}
			if err != unix.EAGAIN || written < MaxLine {
				t.Fatalf("%d bytes, then %v", written, err)
			}
			if ready, err := o.Wait(0); ready || err != nil {
				t.Errorf("%t %v", ready, err)
			}
			if flags, err := unix.FcntlInt(uintptr(w), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
				t.Errorf("others who share the descriptor do not block any more: %v %v", flags, err)
			}
			if n, err := unix.Read(r, make([]byte, written)); err != nil || n == 0 {
				t.Fatal(n, err)
			}
			if ready, err := o.Wait(-1); !ready || err != nil {
				t.Errorf("%t %v", ready, err)
			}
			if n, err := o.Write(line); n != len(line) || err != nil {
				t.Errorf("%d %v", n, err)
			}
		})
	}
}

// TestOutputOfABrokenPipe is an error, and no signal.
func TestOutputOfABrokenPipe(t *testing.T) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	o := NewOutput(fds[1])
	_ = unix.Close(fds[0])
	if ready, err := o.Wait(1000); !ready || err != nil {
		t.Errorf("%t %v", ready, err)
	}
	if _, err := o.Write([]byte("x")); err != unix.EPIPE {
		t.Error(err)
	}
}

// TestOutputToAFile continues where others write; a closed descriptor is an error.
func TestOutputToAFile(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	o := NewOutput(int(f.Fd()))
	for _, write := range []func([]byte) (int, error){o.Write, f.Write, o.Write} {
		if _, err := write([]byte("line\n")); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(f.Name()); err != nil || string(text) != "line\nline\nline\n" {
		t.Errorf("%q %v", text, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := NewOutput(1 << 20).Write([]byte("x")); err != unix.EBADF {
		t.Error(err)
	}
}

// TestOutputThatCannotBeOpenedAgain asks before it writes: a terminal's master has no name of its own.
func TestOutputThatCannotBeOpenedAgain(t *testing.T) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	o := &Output{fd: fds[1], poll: true}
	written := 0
	for {
		n, err := o.Write(make([]byte, 2*MaxLine))
		if err != nil {
			if err != unix.EAGAIN {
				t.Fatal(err)
			}
			break
		}
		if n > MaxLine {
			t.Fatalf("%d bytes at once could block", n)
		}
		written += n
	}
	if written == 0 {
		t.Error("nothing was written")
	}
}
