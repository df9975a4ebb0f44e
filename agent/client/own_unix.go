//go:build unix

package client

import (
	"os"
	"syscall"
)

// ownGroup keeps Ctrl-C the caller's to hear: it may need the agent to end well.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func ownedByUs(info os.FileInfo) bool {
	uid, _, ok := ownersOf(info)
	return ok && uid == os.Geteuid()
}

// ownersOf is the user and the group of a file; info may be nil.
func ownersOf(info os.FileInfo) (uid, gid int, ok bool) {
	if info == nil {
		return 0, 0, false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(stat.Uid), int(stat.Gid), true
}
