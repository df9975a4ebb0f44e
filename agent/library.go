package agent

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/pitboss-run/pitboss/python"
)

// extractLibrary writes the Python half below dir, once per content, and returns the directory that goes on sys.path.
// The name carries a hash of the content, so two versions never share files. The directory is readable by everybody
// (0755, files 0644: a pool may run as another user) and must belong to us or root and be writable by the owner only.
func extractLibrary(dir string) (string, error) {
	root, err := fs.Sub(python.Library, "src")
	if err != nil {
		return "", err
	}
	hash, err := hashTree(root)
	if err != nil {
		return "", err
	}
	final := filepath.Join(dir, "python-"+hash[:16])
	switch err := checkOwned(final); {
	case err == nil:
		// Something may have tidied up old files in it (systemd-tmpfiles).
		if intact(root, os.DirFS(final)) {
			return final, nil
		}
		if err := os.RemoveAll(final); err != nil {
			return "", fmt.Errorf("cannot renew the Python library: %w", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("cannot create %q for the Python library: %w", dir, err)
	}
	temp, err := os.MkdirTemp(dir, ".python-")
	if err != nil {
		return "", fmt.Errorf("cannot extract the Python library: %w", err)
	}
	defer os.RemoveAll(temp)
	if err := os.CopyFS(temp, root); err != nil {
		return "", fmt.Errorf("cannot extract the Python library: %w", err)
	}
	if err := openToAll(temp); err != nil {
		return "", fmt.Errorf("cannot extract the Python library: %w", err)
	}
	// The rename is atomic; whoever loses the race finds the same content in place.
	if err := os.Rename(temp, final); err != nil && checkOwned(final) != nil {
		return "", fmt.Errorf("cannot extract the Python library: %w", err)
	}
	return final, nil
}

func hashTree(root fs.FS) (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%s %d\n", name, len(content))
		sum.Write(content)
		return nil
	})
	return hex.EncodeToString(sum.Sum(nil)), err
}

// intact says that every file of the library is there as it should be; bytecode that Python keeps beside them is its own business.
func intact(root, extracted fs.FS) bool {
	return fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		want, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		got, err := fs.ReadFile(extracted, name)
		if err == nil && !bytes.Equal(got, want) {
			err = fs.ErrInvalid
		}
		return err
	}) == nil
}

func openToAll(root string) error {
	return filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(name, 0o755)
		}
		return os.Chmod(name, 0o644)
	})
}

// checkOwned refuses a library directory that somebody else could have written.
func checkOwned(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || info.Mode().Perm()&0o022 != 0 || (int(stat.Uid) != os.Geteuid() && stat.Uid != 0) {
		return fmt.Errorf("cannot use %q for the Python library: it must be a directory of ours that only its owner can write; remove it", dir)
	}
	return nil
}
