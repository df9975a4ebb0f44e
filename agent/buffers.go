package agent

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// buffers are shared by all readers of one agent: a thousand workers are idle most of the time, and a reader needs its
// buffer only while bytes are there.
type buffers struct {
	orders orderBuffers
	output sync.Pool // *[readChunk]byte
}

// dupFile is a second descriptor of the same open file, for passing on.
func dupFile(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("cannot duplicate %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func joinLines(lines []string) string { return strings.Join(lines, "\n") }

// signalName is "SIGKILL" for 9; real-time signals have no name of their own.
func signalName(n int) string {
	if name := unix.SignalName(unix.Signal(n)); name != "" {
		return name
	}
	return "signal " + strconv.Itoa(n)
}
