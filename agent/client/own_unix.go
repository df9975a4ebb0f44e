//go:build unix

package client

import (
	"os"
	"syscall"
)

// ownGroup keeps Ctrl-C the caller's to hear: it may need the agent to end well.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func ownedByUs(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}
