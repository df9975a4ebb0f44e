// Command agent is pitboss: the daemon, and the command line that talks to it.
package main

import (
	"os"
	"runtime"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/agent/chaos"
)

// A parent-death signal belongs to a thread (PR_SET_PDEATHSIG(2const)), and so does the exec that makes this process the watchdog: from any
// other thread than the main one it would lose the signal that our parent has asked for (setpriv --pdeathsig, unshare --kill-child).
func init() { runtime.LockOSThread() }

func main() {
	agent.RunLimitProbe(os.Args)
	chaos.RunLesserKernel(os.Args)
	code := execute(os.Args[1:])
	if a := supervised.Load(); a != nil {
		a.Bye(code) // the watchdog passes it on
	}
	os.Exit(code)
}
