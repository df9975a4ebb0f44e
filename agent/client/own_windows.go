package client

import (
	"os"
	"syscall"
)

// ownGroup keeps Ctrl-C the caller's to hear.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// ownedByUs: a file has no user id here, so a shared directory is never trusted.
func ownedByUs(os.FileInfo) bool { return false }

func ownersOf(os.FileInfo) (uid, gid int, ok bool) { return 0, 0, false }
