package chaos

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// HangingFS is a file system whose root is an empty directory and that answers nothing else until it is told to: who looks for a
// file in it sleeps uninterruptibly, and not even SIGKILL ends that. The kernel lets go of a request of FUSE only while nobody has
// read it (request_wait_answer of fs/fuse/dev.c); this one is read at once, like those of a server that is gone of NFS or a disk.
//
// It is mounted nowhere: its mount is detached as soon as it is held open, so nothing of it outlives the process that made it.
type HangingFS struct {
	device *os.File // /dev/fuse
	root   *os.File // O_PATH of its root, which keeps the detached mount

	mu      sync.Mutex // guards the following
	asked   []uint64   // requests that wait for their answer
	answers bool       // no request waits any more
	done    chan struct{}
}

// Numbers of the FUSE protocol, version 7.31 (include/uapi/linux/fuse.h); host byte order, which is the little one on amd64 and arm64.
const (
	fuseForget, fuseGetattr, fuseInit, fuseInterrupt, fuseDestroy, fuseBatchForget = 2, 3, 26, 36, 38, 42

	fuseMajor, fuseMinor = 7, 31
	fuseInHeader         = 40      // len, opcode u32; unique, nodeid u64; uid, gid, pid, padding u32
	fuseOutHeader        = 16      // len u32, error i32, unique u64
	fuseMaxWrite         = 4096    // with it a read of 8 KiB takes every request (FUSE_MIN_READ_BUFFER)
	fuseRead             = 8 << 10 // bytes
	fuseRootID           = 1
)

// CannotHang says why no such file system can be made here, "" when one can.
func CannotHang() string {
	if os.Geteuid() != 0 {
		return "needs root: it mounts a file system"
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "needs FUSE: cannot open /dev/fuse: " + err.Error()
	}
	_ = unix.Close(fd)
	return ""
}

// NewHangingFS makes one, with dir, which must be empty, as the place of its mount for a moment. The caller closes it.
func NewHangingFS(dir string) (*HangingFS, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open /dev/fuse: %w", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)
	if err := unix.Mount("hanging", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("cannot mount a FUSE file system on %q: %w", dir, err)
	}
	// Only now: before its mount it polls as an error, and the runtime's poller would never take it.
	h := &HangingFS{device: os.NewFile(uintptr(fd), "/dev/fuse"), done: make(chan struct{})}
	go h.serve()
	root, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC|unix.O_DIRECTORY, 0)
	if err := errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH)); err != nil {
		_ = h.device.Close()
		<-h.done
		return nil, fmt.Errorf("cannot detach the file system on %q: %w", dir, err)
	}
	h.root = os.NewFile(uintptr(root), dir)
	return h, nil
}

// Path is how a process of the same user names a file in it. Whoever stats it hangs.
func (h *HangingFS) Path(name string) string {
	return strings.TrimSuffix(fmt.Sprintf("/proc/%d/fd/%d/%s", os.Getpid(), h.root.Fd(), name), "/")
}

// Asked is how many requests wait for an answer.
func (h *HangingFS) Asked() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.asked)
}

// Answer tells everybody who waits, and whoever asks from now on, that there is no such file.
func (h *HangingFS) Answer() {
	h.mu.Lock()
	asked := h.asked
	h.asked, h.answers = nil, true
	h.mu.Unlock()
	for _, unique := range asked {
		h.reply(unique, -int32(unix.ENOENT), nil)
	}
}

// Close aborts what still waits: the kernel answers it with ENOTCONN.
func (h *HangingFS) Close() {
	_ = h.device.Close()
	<-h.done
	_ = h.root.Close()
}

func (h *HangingFS) serve() {
	defer close(h.done)
	buf := make([]byte, fuseRead)
	for {
		n, err := h.device.Read(buf)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOENT) { // the asker gave up before it was read
			continue
		}
		if err != nil || n < fuseInHeader {
			return
		}
		h.take(binary.NativeEndian.Uint32(buf[4:]), binary.NativeEndian.Uint64(buf[8:]), binary.NativeEndian.Uint64(buf[16:]))
	}
}

// take decides about one request.
func (h *HangingFS) take(opcode uint32, unique, node uint64) {
	switch opcode {
	case fuseForget, fuseBatchForget, fuseInterrupt, fuseDestroy: // have no answer
		return
	case fuseInit:
		var out [64]byte
		binary.NativeEndian.PutUint32(out[0:], fuseMajor)
		binary.NativeEndian.PutUint32(out[4:], fuseMinor)
		binary.NativeEndian.PutUint32(out[20:], fuseMaxWrite)
		h.reply(unique, 0, out[:])
		return
	case fuseGetattr:
		if node == fuseRootID { // else nobody could even name a file below it
			var out [104]byte                                           // attr_valid u64, its ns u32, padding u32, struct fuse_attr
			binary.NativeEndian.PutUint64(out[16:], fuseRootID)         // ino
			binary.NativeEndian.PutUint32(out[76:], unix.S_IFDIR|0o755) // mode
			binary.NativeEndian.PutUint32(out[80:], 2)                  // nlink
			h.reply(unique, 0, out[:])
			return
		}
	}
	h.mu.Lock()
	answers := h.answers
	if !answers {
		h.asked = append(h.asked, unique)
	}
	h.mu.Unlock()
	if answers {
		h.reply(unique, -int32(unix.ENOENT), nil)
	}
}

// reply is one write: header and body. An error says that the file system is being closed.
func (h *HangingFS) reply(unique uint64, status int32, body []byte) {
	text := make([]byte, fuseOutHeader, fuseOutHeader+len(body))
	binary.NativeEndian.PutUint32(text[0:], uint32(fuseOutHeader+len(body)))
	binary.NativeEndian.PutUint32(text[4:], uint32(status))
	binary.NativeEndian.PutUint64(text[8:], unique)
	_, _ = h.device.Write(append(text, body...))
}
