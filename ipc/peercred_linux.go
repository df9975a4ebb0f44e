package ipc

import "golang.org/x/sys/unix"

// Cred says who made the other end of a unix socket: for a connected socket the process that connected or listened, for a
// socket pair the process that made the pair, wherever the ends are now (unix(7), SO_PEERCRED).
type Cred struct {
	PID int32 // in the reader's pid namespace, 0 if it has no number there
	UID uint32
	GID uint32
}

// PeerCred reads the credentials of the peer of a connected unix socket.
func PeerCred(fd int) (Cred, error) {
	c, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Cred{}, &opError{"cannot read peer credentials", err}
	}
	return Cred{PID: c.Pid, UID: c.Uid, GID: c.Gid}, nil
}
