// Command pitboss-watchdog is the guardian of one pitboss agent: its parent, and the last word over its process tree.
package main

import (
	"os"
	"runtime"

	"github.com/pitboss-run/pitboss/watchdog"
)

// What belongs to a thread, the children and the parent-death signal, is the main thread's, also after an exec.
func init() { runtime.LockOSThread() }

func main() {
	os.Exit(watchdog.Main(os.Args[1:]))
}
