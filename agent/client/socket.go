package client

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// systemDir is where the agents of the system have their sockets.
const systemDir = "/run/pitboss"

// DefaultSocket is $PITBOSS_SOCKET, else what Socket finds for the instance "agent"; a directory that is not to be trusted is
// passed over.
func DefaultSocket(getenv func(string) string) string {
	if path := getenv("PITBOSS_SOCKET"); path != "" {
		return path
	}
	path, err := Socket(getenv, "agent")
	if err != nil {
		return filepath.Join(systemDir, "agent.sock")
	}
	return path
}

// Socket finds the socket of an instance: below $XDG_RUNTIME_DIR, if it is there or the system's is not; for a user who is not root
// and has no such variable, in UserDir if it is there; else the system's in /run/pitboss, where only root can put one. The error
// says that UserDir belongs to somebody else, who may answer there.
func Socket(getenv func(string) string, instance string) (string, error) {
	name := instance + ".sock"
	if dir := getenv("XDG_RUNTIME_DIR"); dir != "" {
		own, system := filepath.Join(dir, "pitboss", name), filepath.Join(systemDir, name)
		if !exists(own) && exists(system) { // every login has the variable; few users have an agent of their own
			return system, nil
		}
		return own, nil
	}
	if os.Geteuid() == 0 {
		return filepath.Join(systemDir, name), nil
	}
	dir := UserDir(getenv)
	if _, err := os.Lstat(dir); err != nil {
		return filepath.Join(systemDir, name), nil
	}
	if err := OwnDir(dir); err != nil {
		return "", err
	}
	if path := filepath.Join(dir, name); exists(path) {
		return path, nil
	}
	return filepath.Join(systemDir, name), nil
}

// UserDir is the place of a user without a runtime directory: pitboss-UID in $TMPDIR, which is /tmp by default. Anybody may have
// made it before; OwnDir tells.
func UserDir(getenv func(string) string) string {
	temp := getenv("TMPDIR")
	if temp == "" {
		temp = "/tmp"
	}
	return filepath.Join(temp, "pitboss-"+strconv.Itoa(os.Geteuid()))
}

// OwnDir refuses a directory that somebody else owns or may write: who owns it can replace what is in it.
func OwnDir(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("cannot use %q: %w", dir, err)
	}
	if !info.IsDir() || !ownedByUs(info) || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("cannot use %q: it must be a directory of ours that nobody else can write", dir)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
