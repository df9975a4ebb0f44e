package chaos

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTheHangingFileSystemHangs is the instrument's proof: who asks it sleeps in state D and survives SIGKILL, until it is answered.
func TestTheHangingFileSystemHangs(t *testing.T) {
	if why := CannotHang(); why != "" {
		t.Skip(why)
	}
	fs, err := NewHangingFS(t.TempDir())
	must(t, err)
	defer fs.Close()
	if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(mounts), "hanging") {
		t.Errorf("%v, mounts:\n%s", err, mounts)
	}
	asker := exec.Command("/usr/bin/stat", fs.Path("x"))
	must(t, asker.Start())
	r := &run{t: t}
	p := r.pin(asker.Process.Pid)
	defer func() { _ = unix.Close(p.fd) }()
	r.until("request", func() bool { return fs.Asked() == 1 })
	p.kill(unix.SIGKILL)
	if p.gone(grace) {
		t.Fatal("it was not unkillable")
	}
	dir := "/proc/" + strconv.Itoa(p.pid)
	stat, err := os.ReadFile(dir + "/stat")
	must(t, err)
	wchan, err := os.ReadFile(dir + "/wchan")
	must(t, err)
	if !strings.Contains(string(stat), ") D ") || string(wchan) != "request_wait_answer" {
		t.Errorf("%s %s", wchan, stat)
	}
	fs.Answer()
	if !p.gone(patience) {
		t.Error("an answer did not free it")
	}
	_ = asker.Wait()
	if err := exec.Command("/usr/bin/stat", fs.Path("y")).Run(); err == nil {
		t.Error("a file was found")
	}
}
