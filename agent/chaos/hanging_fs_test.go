package chaos

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTheHangingFileSystemHangs is the instrument's proof: who asks it sleeps in state D and survives SIGKILL, until it is answered.
func TestTheHangingFileSystemHangs(t *testing.T) {
	if why := CannotHang(); why != "" {
		t.Skip(why)
	}
	fs, err := NewHangingFS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(mounts), "hanging") {
		t.Errorf("%v, mounts:\n%s", err, mounts)
	}
	asker := exec.Command("/usr/bin/stat", fs.Path("x"))
	if err := asker.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := Pin(asker.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	for end := time.Now().Add(patience); fs.Asked() == 0 && time.Now().Before(end); {
		runtime.Gosched()
	}
	p.Kill(unix.SIGKILL)
	if p.Gone(grace) {
		t.Fatal("it was not unkillable")
	}
	dir := "/proc/" + itoa(p.PID)
	stat, errStat := os.ReadFile(dir + "/stat")
	wchan, errWchan := os.ReadFile(dir + "/wchan")
	if err := errors.Join(errStat, errWchan); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(stat), ") D ") || string(wchan) != "request_wait_answer" {
		t.Errorf("%s %s", wchan, stat)
	}
	fs.Answer()
	if !p.Gone(patience) {
		t.Error("an answer did not free it")
	}
	_ = asker.Wait()
	if err := exec.Command("/usr/bin/stat", fs.Path("y")).Run(); err == nil {
		t.Error("a file was found")
	}
}
