package chaos

import "golang.org/x/sys/unix"

// oldPathCalls are none on this processor.
var oldPathCalls []uintptr

func init() { pathCalls[unix.SYS_FSTATAT] = 1 }
