// Package python carries the Python half of pitboss inside the agent's binary. It holds no logic: the agent extracts the
// files once per version, so that any interpreter works with nothing installed and both halves are always of one version.
package python

import "embed"

// Library is the tree of the package `pitboss`, below src/.
//
//go:embed src/pitboss/*.py src/pitboss/py.typed
var Library embed.FS
