// Command agent is pitboss: the daemon, and the command line that talks to it.
package main

import (
	"os"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/agent/chaos"
)

func main() {
	agent.RunLimitProbe(os.Args)
	chaos.RunLesserKernel(os.Args)
	code := execute(os.Args[1:])
	if a := supervised.Load(); a != nil {
		a.Bye(code) // the watchdog passes it on
	}
	os.Exit(code)
}
