package ipc

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// PeerGroups reads the supplementary groups that the peer of a connected unix socket had when it connected (Linux 4.13,
// SO_PEERGROUPS); its primary group is in PeerCred.
func PeerGroups(fd int) ([]uint32, error) {
	groups := make([]uint32, 64)
	for {
		size := uint32(len(groups) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == 0:
			return groups[:size/4], nil
		case errno == unix.ERANGE && int(size) > len(groups)*4: // size is what it takes
			groups = make([]uint32, size/4)
		default:
			return nil, &opError{"cannot read the peer's groups", errno}
		}
	}
}
