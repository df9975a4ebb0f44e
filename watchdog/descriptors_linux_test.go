package watchdog

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// atTheLimit runs act while this process can open nothing more.
func atTheLimit(t *testing.T, act func()) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = 3
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	act()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
}

func TestWithoutDescriptors(t *testing.T) {
	before := descriptors(t, os.Getpid())
	var f *failure
	var n, there *notifier
	var p *procFiles
	atTheLimit(t, func() {
		_, f = openSignals()
		n = newNotifier(manager{notify: "/run/nobody"}, -1, 0)
		p = openProc(os.Getpid())
	})
	if f == nil || f.code != exitInternal || !strings.Contains(f.Error(), "cannot make the signal pipe: too many open files") {
		t.Errorf("%v", f)
	}
	if n != nil {
		t.Errorf("notifies through %d", n.fd)
	}
	if got := *p; got.stat != -1 || got.tasks != -1 || got.spare != -1 {
		t.Errorf("%+v", got)
	}
	p.sample(0, false)
	if e := p.collect(1, 0); e.state != 0 || e.dumping || e.frozen || e.ran != 0 || e.waits || e.throttled != 0 || e.faults != 0 {
		t.Errorf("evidence out of nothing: %+v", e)
	}
	p.close()
	if after := descriptors(t, os.Getpid()); after != before {
		t.Errorf("%d descriptors, before %d", after, before)
	}
	if there = newNotifier(manager{notify: "/run/nobody"}, -1, 0); there == nil { // control
		t.Fatal("no notifier with descriptors to spare")
	}
	_ = unix.Close(there.fd)
}

// TestAReapedProcessSaysNothing: descriptors that outlive their process are read as nothing, not as the last that they said.
func TestAReapedProcessSaysNothing(t *testing.T) {
	c := exec.Command("cat")
	in, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	p := openProc(c.Process.Pid)
	defer p.close()
	if p.advance(nil); statState(readFD(p.stat)) == 0 || len(p.threads) != 1 { // control
		t.Errorf("a living process has state %q and threads %v", statState(readFD(p.stat)), p.threads)
	}
	_ = in.Close()
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	p.advance(nil)
	if text := readFD(p.stat); text != "" || len(p.threads) != 0 {
		t.Errorf("%q, threads %v", text, p.threads)
	}
}

func TestNoSignalIsNoByte(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	s := &signalPipe{read: p[0]}
	buf := make([]byte, 4)
	if got := s.drain(buf); len(got) != 0 {
		t.Errorf("%v", got)
	}
	if _, err := unix.Write(p[1], []byte{15, 1}); err != nil {
		t.Fatal(err)
	}
	if got := s.drain(buf); string(got) != "\x0f\x01" {
		t.Errorf("%v", got)
	}
}
