package agent

// FindPython names the interpreter that a pool with this `python` setting and this working directory runs on, and the
// rule that chose it: the setting, $PITBOSS_PYTHON, $VIRTUAL_ENV, ./.venv, the venv of pitboss itself, python3 on the path.
func FindPython(configured, workdir string, getenv func(string) string) (path, from string, err error) {
	i, err := findInterpreter(configured, workdir, getenv)
	return i.path, i.from, err
}

// ExtractLibrary writes the Python half that this binary carries below dir, if it is not there yet, and returns the
// directory that has to come first on sys.path.
func ExtractLibrary(dir string) (string, error) { return extractLibrary(dir) }

// ScrubEnviron is env as a launcher gets it: without what belongs to the service manager and to the agent's own links.
func ScrubEnviron(env []string) []string { return workerEnviron(env, "") }
