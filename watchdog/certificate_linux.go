package watchdog

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// writeCertificate replaces last-death.json in dir as a whole: written beside it, then renamed. "" writes nothing.
func writeCertificate(dir string, text []byte) error {
	if dir == "" {
		return nil
	}
	name := dir + "/" + certificateFile
	temp := name + "." + itoa(unix.Getpid())
	err := os.WriteFile(temp, append(text, '\n'), 0o644)
	if err == nil {
		err = os.Rename(temp, name)
	}
	if err != nil {
		_ = os.Remove(temp)
		return errors.New("cannot write " + quote(name) + ": " + err.Error())
	}
	return nil
}

// removeDir removes a private agent's runtime directory with all that is in it. Symbolic links in it are removed, not followed.
func removeDir(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return errors.New("cannot remove " + quote(dir) + ": " + err.Error())
	}
	return nil
}
