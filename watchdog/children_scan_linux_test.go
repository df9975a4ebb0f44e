package watchdog

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTheScanFindsTheChildren: the living and the zombies, as often as it is asked, also when this process can open no further file.
func TestTheScanFindsTheChildren(t *testing.T) {
	c, f := scanForChildren()
	if f != nil {
		t.Fatal(f.text)
	}
	defer unix.Close(c.scan.proc)
	defer func() { _ = unix.Close(c.scan.spare) }()
	living, dead := exec.Command("sleep", "600"), exec.Command("true")
	for _, cmd := range []*exec.Cmd{living, dead} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	defer func() { _ = living.Process.Kill(); _ = living.Wait(); _ = dead.Wait() }()
	for end := time.Now().Add(30 * time.Second); statState(readFile("/proc/"+itoa(dead.Process.Pid)+"/stat")) != 'Z'; {
		if time.Now().After(end) {
			t.Fatal("no zombie")
		}
	}
	want := []int32{int32(living.Process.Pid), int32(dead.Process.Pid)}
	check := func(when string) {
		got := c.list()
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	check("first")
	check("again")

	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	full := unix.Rlimit{Cur: 64, Max: was.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &full); err != nil {
		t.Fatal(err)
	}
	var hoard []*os.File
	for {
		file, err := os.Open(os.DevNull)
		if err != nil {
			if !strings.Contains(err.Error(), "too many open files") {
				t.Error(err)
			}
			break
		}
		hoard = append(hoard, file)
	}
	check("without a free descriptor")
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	for _, file := range hoard {
		_ = file.Close()
	}
}
