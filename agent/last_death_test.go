package agent

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const aCertificate = `{"schema":1,"run_id":"abc","agent_pid":7,"cause":"signal SIGKILL","t_detect_us":9,"t_term_us":0,"t_empty_us":800,"killed":2,"survivors":[],"survivor_count":0,"tier":"tree","proof":"ECHILD","guarded":3}` + "\n"

func TestACertificateIsReadOnceAndOnlyIfItIsOurs(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, certificateFile)
	if d := readDeath(dir); d.certificate != nil || d.fault != nil {
		t.Errorf("nobody died: %+v", d)
	}
	write(t, file, aCertificate, 0o644)
	d := readDeath(dir)
	if d.fault != nil || d.certificate == nil || d.certificate.RunID != "abc" || d.certificate.EmptyUS != 800 || d.reported {
		t.Fatalf("%+v", d)
	}
	if err := markReported(dir, "abc"); err != nil {
		t.Fatal(err)
	}
	if d := readDeath(dir); !d.reported || d.certificate == nil {
		t.Errorf("after the report: %+v", d)
	}
	write(t, file, strings.Replace(aCertificate, "abc", "def", 1), 0o644)
	if d := readDeath(dir); d.reported {
		t.Errorf("another death counts as reported: %+v", d)
	}
}

func TestAHostileCertificateIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		make func(t *testing.T, file string)
		want string
	}{
		"empty":     {func(t *testing.T, file string) { write(t, file, "", 0o644) }, "torn"},
		"torn":      {func(t *testing.T, file string) { write(t, file, aCertificate[:100], 0o644) }, "torn"},
		"binary":    {func(t *testing.T, file string) { write(t, file, "\x00\xff\xfe", 0o644) }, "torn"},
		"two":       {func(t *testing.T, file string) { write(t, file, aCertificate+aCertificate, 0o644) }, "torn"},
		"a number":  {func(t *testing.T, file string) { write(t, file, "1", 0o644) }, "torn"},
		"no fields": {func(t *testing.T, file string) { write(t, file, "{}", 0o644) }, "no certificate of schema 1"},
		"schema 2": {func(t *testing.T, file string) {
			write(t, file, strings.Replace(aCertificate, `"schema":1`, `"schema":2`, 1), 0o644)
		}, "no certificate of schema 1"},
		"too large": {func(t *testing.T, file string) { write(t, file, aCertificate+strings.Repeat(" ", 8<<10), 0o644) }, "larger than 4096 bytes"},
		"writable":  {func(t *testing.T, file string) { write(t, file, aCertificate, 0o644); chmod(t, file, 0o666) }, "others may write it"},
		"a link": {func(t *testing.T, file string) {
			write(t, file+".real", aCertificate, 0o644)
			if err := os.Symlink(file+".real", file); err != nil {
				t.Fatal(err)
			}
		}, "symbolic links"},
		"a directory": {func(t *testing.T, file string) {
			if err := os.Mkdir(file, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		"a pipe": {func(t *testing.T, file string) {
			if err := syscall.Mkfifo(file, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		"foreign": {func(t *testing.T, file string) {
			write(t, file, aCertificate, 0o644)
			if err := os.Chown(file, 65534, 65534); err != nil {
				t.Fatal(err) // needs root, as `make test` in a container has it
			}
		}, "belongs to user 65534"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c.make(t, filepath.Join(dir, certificateFile))
			if d := readDeath(dir); d.certificate != nil || d.fault == nil || !strings.Contains(d.fault.Error(), c.want) {
				t.Errorf("%+v", d)
			}
		})
	}
}

func chmod(t *testing.T, file string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
}
