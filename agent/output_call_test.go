package agent

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLinesAreOfTheCallThatWroteThem, whenever they are read: before the answer, between it and the next call, or during that.
func TestLinesAreOfTheCallThatWroteThem(t *testing.T) {
	running := uint64(0)
	var mu sync.Mutex
	now := func() uint64 { mu.Lock(); defer mu.Unlock(); return running }
	begin := func(call uint64) { mu.Lock(); defer mu.Unlock(); running = call }
	type line struct {
		call uint64
		text string
	}
	lines := make(chan line, 1000)
	o, theirs, err := newOutput(func(_ string, call uint64, text string) { lines <- line{call, text} }, now, &sync.Pool{})
	if err != nil {
		t.Fatal(err)
	}
	w := theirs[0]
	const calls = 300
	for call := uint64(1); call <= calls; call++ {
		begin(call)
		fmt.Fprintf(w, "call %d\n", call)
		if call%3 == 0 {
			fmt.Fprintf(w, "call %d, half a line", call) // the next call ends it
		} else if call%3 == 1 && call > 1 {
			fmt.Fprintf(w, ", and the rest\n")
		}
		o.callEnded(call)
		begin(0)
	}
	closeFiles(theirs)
	<-o.ended
	o.close()
	close(lines)
	count := 0
	for l := range lines {
		count++
		var first uint64
		if _, err := fmt.Sscanf(l.text, "call %d", &first); err != nil {
			continue
		}
		if l.call != first && l.call != first+1 || l.text == fmt.Sprintf("call %d", first) && l.call != first {
			t.Errorf("%q is of call %d", l.text, l.call)
		}
	}
	if count < calls {
		t.Errorf("%d lines", count)
	}
	for _, p := range o.pipes {
		if len(p.marks) > 1 {
			t.Errorf("%d marks are left", len(p.marks))
		}
	}
}

// TestCallsThatWriteNothingLeaveNoMark, also behind an unfinished line.
func TestCallsThatWriteNothingLeaveNoMark(t *testing.T) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	p, w := newPipe(fds[0]), os.NewFile(uintptr(fds[1]), "other end")
	defer p.file.Close()
	defer w.Close()
	for call := range uint64(100) {
		p.callEnded(call)
	}
	fmt.Fprint(w, "unfinished")
	for call := range uint64(100) {
		p.callEnded(1000 + call)
	}
	if len(p.marks) != 1 || p.marks[0] != (callMark{10, 1000}) {
		t.Errorf("%v", p.marks)
	}
	if got := p.callAt(10, func() uint64 { return 7 }); got != 1000 {
		t.Errorf("call %d", got)
	}
	if got := p.callAt(11, func() uint64 { return 7 }); got != 7 || len(p.marks) != 0 {
		t.Errorf("call %d, %v", got, p.marks)
	}
}
