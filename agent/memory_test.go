package agent

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMemoryOfAProcess is what the kernel says: a block that is touched is in it, a process that is not there has none.
func TestMemoryOfAProcess(t *testing.T) {
	before := readMemory(os.Getpid())
	block, err := unix.Mmap(-1, 0, 64<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // no shadow memory of -race
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(block) }()
	for i := 0; i < len(block); i += 4096 {
		block[i] = 1
	}
	after := readMemory(os.Getpid())
	if grown := after.RSS - before.RSS; grown < 60<<20 || grown > 80<<20 {
		t.Errorf("64 MiB touched, and resident memory grew by %d bytes", grown)
	}
	if after.PSS <= 0 || after.PSS > after.RSS {
		t.Errorf("%+v", after)
	}
	if m := readMemory(1 << 22); m != (processMemory{}) {
		t.Errorf("a process that is not there has %+v", m)
	}
}

// TestTheMeterReadsSeldom: once for each process in memoryAge, and it forgets who is gone.
func TestTheMeterReadsSeldom(t *testing.T) {
	sleeper := exec.Command("sleep", "60")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() }()
	var m memoryMeter
	now := time.Now()
	with := func(id string, pid int) *Status {
		return &Status{Pools: []PoolStatus{{Workers: []WorkerStatus{{ID: id, PID: pid}, {ID: "starting"}}}}}
	}
	s := with("a-0", sleeper.Process.Pid)
	m.fill(s, now)
	if w := s.Pools[0].Workers; w[0].RSSBytes <= 0 || w[0].PSSBytes <= 0 || w[1].RSSBytes != 0 {
		t.Fatalf("%+v", w)
	}
	m.last["a-0"] = measured{processMemory{1, 1}, sleeper.Process.Pid, false, now}
	for _, c := range []struct {
		what  string
		pid   int
		after time.Duration
		fresh bool
	}{
		{"soon", sleeper.Process.Pid, memoryAge - 1, false},
		{"later", sleeper.Process.Pid, memoryAge, true},
		{"another process", os.Getpid(), 0, true},
	} {
		s := with("a-0", c.pid)
		m.last["a-0"] = measured{processMemory{1, 1}, sleeper.Process.Pid, false, now}
		m.fill(s, now.Add(c.after))
		if got := s.Pools[0].Workers[0].RSSBytes != 1; got != c.fresh {
			t.Errorf("%s: measured anew: %t", c.what, got)
		}
	}
	m.fill(with("b-0", sleeper.Process.Pid), now)
	if _, kept := m.last["a-0"]; kept || len(m.last) != 1 {
		t.Errorf("%v", m.last)
	}
}
