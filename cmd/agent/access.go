package main

import (
	"os"
	"path/filepath"

	"github.com/pitboss-run/pitboss/agent"
)

// openPlace lets those whom `access:` names reach the socket in our own directory: they may pass through it, not list it.
// What else is in it is ours alone by its own mode. A directory that the user has named is the user's to open.
func openPlace(cfg agent.Config, socket string) error {
	base := runtimeBase()
	if !cfg.Access.Shared() || filepath.Dir(socket) != base {
		return nil
	}
	if err := os.Chmod(base, 0o711); err != nil {
		return fail(exitPermission, "name another place with --socket", "cannot open %q to those whom access: names: %w", base, err)
	}
	return nil
}
