package chaos

import "golang.org/x/sys/unix"

// oldPathCalls are those that newer processors never had; all of them have the path first.
var oldPathCalls = []uintptr{unix.SYS_OPEN, unix.SYS_STAT, unix.SYS_LSTAT, unix.SYS_ACCESS}

func init() { pathCalls[unix.SYS_NEWFSTATAT] = 1 }
