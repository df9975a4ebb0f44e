// Command configdoc prints docs/config.md, for `make gen` and `make check`.
package main

import (
	"fmt"
	"os"

	"github.com/pitboss-run/pitboss/agent"
)

func main() {
	if _, err := fmt.Print(agent.ConfigMarkdown()); err != nil {
		fmt.Fprintln(os.Stderr, "configdoc:", err)
		os.Exit(1)
	}
}
