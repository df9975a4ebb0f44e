package agent

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKernelFeaturesAreWhole: this host has what is required, and every feature that may be missing says what then.
func TestKernelFeaturesAreWhole(t *testing.T) {
	if err := CheckKernel(); err != nil {
		t.Error(err)
	}
	for _, f := range KernelFeatures() {
		if f.Name == "" || f.Since == "" || f.Required() == (f.Fix == "") || (f.Required() && f.Lowers) {
			t.Errorf("%+v", f)
		}
	}
}

// TestTheScanFindsTheChildren: the living, the dead that nobody has reaped, and nobody else's; as the kernel's own lists do.
func TestTheScanFindsTheChildren(t *testing.T) {
	living, dead := exec.Command("sh", "-c", "sleep 600; true"), exec.Command("true")
	living.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, living.Start())
	must(t, dead.Start())
	t.Cleanup(func() { _ = syscall.Kill(-living.Process.Pid, syscall.SIGKILL); _ = living.Wait(); _ = dead.Wait() })
	await(t, 10*time.Second, "a zombie and a grandchild", func() bool {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", dead.Process.Pid))
		below, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", living.Process.Pid))
		return strings.Contains(string(stat), ") Z ") && len(below) > 0
	})
	scanned, listed := scanChildren(os.Getpid()), listChildren(os.Getpid())
	slices.Sort(scanned)
	slices.Sort(listed)
	if !slices.Equal(scanned, listed) || !slices.Contains(scanned, living.Process.Pid) || !slices.Contains(scanned, dead.Process.Pid) {
		t.Errorf("scanned %v, listed %v, want %d and %d", scanned, listed, living.Process.Pid, dead.Process.Pid)
	}
}

// TestAChildThatNoListShows keeps the end of the agent waiting: ECHILD is the proof, not an empty list.
func TestAChildThatNoListShows(t *testing.T) {
	c := &children{known: map[int]*pidfd{}, denied: map[int]bool{}, killed: map[int]time.Time{}, list: listChildren, onSweep: func(int) {}, onLeft: func(survivor) {}}
	await(t, 10*time.Second, "rid of what other tests have left", func() bool { c.sweep(); return !c.unlisted() })
	child := exec.Command("sleep", "600")
	must(t, child.Start())
	if !c.unlisted() {
		t.Error("a living child is not seen")
	}
	c.known[child.Process.Pid] = &pidfd{}
	if c.unlisted() {
		t.Error("a child that is expected is a stranger")
	}
	delete(c.known, child.Process.Pid)
	must(t, child.Process.Kill())
	await(t, 10*time.Second, "a zombie", func() bool {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child.Process.Pid))
		return strings.Contains(string(stat), ") Z ")
	})
	if !c.unlisted() {
		t.Error("a zombie is not seen")
	}
	_ = child.Wait()
	if c.unlisted() {
		t.Error("nobody is left, and somebody is seen")
	}
}

// TestCrashFilesWithoutMemfds are files without a name: a worker can write to one, and nothing stays.
func TestCrashFilesWithoutMemfds(t *testing.T) {
	dir := t.TempDir()
	file, err := unlinkedFile(dir)
	must(t, err)
	c := &crashFile{file: file}
	defer c.close()
	writer := exec.Command("sh", "-c", "echo stack >&3")
	writer.ExtraFiles = []*os.File{c.file}
	must(t, writer.Run())
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 || c.text(0) != "stack" {
		t.Errorf("text %q, in the directory %v %v", c.text(0), entries, err)
	}
}
