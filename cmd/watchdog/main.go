// Command pitboss-watchdog is the guardian of one pitboss agent: its parent, and the last word over its process tree.
package main

import (
	"os"

	"github.com/pitboss-run/pitboss/watchdog"
)

func main() {
	os.Exit(watchdog.Main(os.Args[1:]))
}
