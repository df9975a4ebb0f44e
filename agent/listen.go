package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxSocketPath is the longest path of a unix socket (sun_path, unix(7)), without its final zero.
const maxSocketPath = 107

// listenUnix listens on a socket that only our user can connect to, and those whom who allows. A socket file that nobody answers on is a leftover
// and is replaced; one that answers belongs to a living agent and is an error.
func listenUnix(path string, who AccessConfig) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("cannot listen on %q: the path has %d bytes, %d are possible; name a shorter one with --socket", path, len(path), maxSocketPath)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// Between bind and chmod nobody but us may connect, so the file is born with the right mode.
	old := syscall.Umask(0o177)
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %q: %w", path, err)
	}
	if err := openSocket(path, who); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// openSocket lets those connect whom the lists name, and nobody else: by the file's group where that says it all, else everybody,
// and the credentials of each connection decide.
func openSocket(path string, who AccessConfig) error {
	mode := os.FileMode(0o600)
	if who.Shared() {
		mode = 0o666
	}
	if name, ok := who.socketGroup(); ok {
		gid, err := lookUpGroup(name)
		if err != nil {
			return fmt.Errorf("cannot give the socket %q to its group: %w", path, err)
		}
		if err := os.Chown(path, -1, int(gid)); err != nil {
			return fmt.Errorf("cannot give the socket to group %q: %w; the agent's user must be in that group, or root", name, err)
		}
		mode = 0o660
	}
	if err := os.Chmod(path, mode); err != nil {
		return fmt.Errorf("cannot open the socket to those whom access: names: %w", err)
	}
	return nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot look at %q: %w", path, err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("cannot listen on %q: a file that is no socket is in the way; remove it or name another with --socket", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("cannot listen on %q: another agent answers there; stop it, or use --instance or --socket", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("cannot listen on %q: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("cannot remove the stale socket %q: %w", path, err)
	}
	return nil
}

// InheritedListeners returns the listeners that the watchdog hands on from the service manager: as many as
// $PITBOSS_LISTEN_FDS says, from descriptor 3 on.
func InheritedListeners(getenv func(string) string) ([]net.Listener, error) {
	text := getenv("PITBOSS_LISTEN_FDS")
	if text == "" {
		return nil, nil
	}
	count, err := strconv.Atoi(text)
	if err != nil || count < 0 || count > 64 {
		return nil, fmt.Errorf("cannot use PITBOSS_LISTEN_FDS=%q: it must be a small number", text)
	}
	names := strings.Split(getenv("PITBOSS_LISTEN_FDNAMES"), ":")
	var listeners []net.Listener
	for i := range count {
		name := "listener"
		if i < len(names) && names[i] != "" {
			name = names[i]
		}
		f := os.NewFile(uintptr(3+i), name)
		l, err := net.FileListener(f)
		_ = f.Close()
		if err != nil {
			return nil, fmt.Errorf("cannot use the inherited descriptor %d (%s) as a listener: %w", 3+i, name, err)
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}
