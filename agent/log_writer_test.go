package agent

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestALogQueueKeepsWholeLinesWithinItsBound(t *testing.T) {
	q := logQueue{bound: 20}
	for i, want := range []bool{true, true, false} { // 16 of 20 bytes, and 8 more do not fit
		if got := q.put([]byte("seven..\n")); got != want {
			t.Errorf("line %d: %v", i, got)
		}
	}
	if !q.put([]byte("abc\n")) {
		t.Error("a line that just fits was refused")
	}
	batch := q.take(nil)
	if string(batch) != "seven..\nseven..\nabc\n" {
		t.Errorf("%q", batch)
	}
	if q.put([]byte("x\n")) {
		t.Error("what is being written does not count")
	}
	if q.putWhole([]byte("a\nb\n")) {
		t.Error("a text was taken by a full queue")
	}
	if n := q.takeLost(); n != 4 || q.takeLost() != 0 {
		t.Errorf("%d lines were lost, want 4", n)
	}
	if q.take(batch); !q.putWhole(bytes.Repeat([]byte("stack\n"), 100)) {
		t.Error("an empty queue refused a text over its bound")
	}
	if q.put([]byte("x\n")) {
		t.Error("a line was taken beside it")
	}
	q = logQueue{bound: 20}
	q.put([]byte("0123456789\n"))
	if q.written() {
		t.Error("a queue more than half full has room for a report")
	}
	if q.take(nil); !q.written() || !q.put([]byte("eighteen bytes and\n")) {
		t.Error("what is written still takes room")
	}
}

func TestAChunkIsWholeLinesThatOneWriteTakes(t *testing.T) {
	long := strings.Repeat("x", atomicWrite)
	for _, c := range []struct {
		batch string
		want  int
	}{
		{"", 0}, {"a\nb\n", 4}, {long[1:] + "\n", atomicWrite}, {long + "\n", atomicWrite + 1},
		{"a\n" + long + "\nb\n", 2}, {long + "\nb\n", atomicWrite + 1}, {long + "unfinished", atomicWrite + 10},
	} {
		if got := chunkOf([]byte(c.batch)); got != c.want {
			t.Errorf("%.20q of %d bytes: %d, want %d", c.batch, len(c.batch), got, c.want)
		}
	}
	if n := countLines([]byte("a\nb")); n != 2 {
		t.Errorf("%d lines", n)
	}
}

// stuckPipe is a pipe that takes no more; a blocking writer of it would wait: write returns EAGAIN only for want of room.
func stuckPipe(t *testing.T) (reader *os.File, fd int) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	reader = os.NewFile(uintptr(fds[0]), "log reader")
	t.Cleanup(func() { _ = reader.Close(); _ = unix.Close(fds[1]) })
	d := newLogDescriptor(fds[1])
	defer d.close()
	if !d.owned {
		t.Fatal("a pipe was not opened again")
	}
	for {
		if _, err := d.write(bytes.Repeat([]byte("#"), atomicWrite-1)); err == unix.EAGAIN {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for { // the rest of the last page
		if _, err := d.write([]byte("#")); err != nil {
			break
		}
	}
	if flags, err := unix.FcntlInt(uintptr(fds[1]), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Fatalf("the descriptor that others share has become non-blocking: %#x, %v", flags, err)
	}
	return reader, fds[1]
}

// Every line is read or counted, whole and in order; the writers wait for none of it.
func TestALogThatNobodyReadsLosesLinesAndCountsThem(t *testing.T) {
	reader, fd := stuckPipe(t)
	direct := make(chan struct{}) // the control: a direct write waits until there is a reader
	go func() { defer close(direct); _, _ = unix.Write(fd, []byte("\ndirect\n")) }()
	w := newLogWriter(fd, 64<<10)
	lost := make(chan uint64, 16)
	w.OnLost(func(n uint64) { fmt.Fprintf(w, "lost %d\n", n); lost <- n })
	const all = 5000
	for i := range all {
		fmt.Fprintf(w, "line %d %s\n", i, strings.Repeat("y", 50))
	}
	select {
	case <-direct:
		t.Fatal("a direct write did not wait: the pipe is not full")
	default:
	}
	got, counted, last := 0, uint64(0), -1
	s := bufio.NewScanner(reader)
	s.Buffer(nil, 1<<20)
	for counted == 0 && s.Scan() {
		var n int
		if _, err := fmt.Sscanf(s.Text(), "lost %d", &n); err == nil {
			counted = uint64(n)
		} else if _, err := fmt.Sscanf(strings.TrimLeft(s.Text(), "#"), "line %d y", &n); err == nil {
			if n <= last || !strings.HasSuffix(s.Text(), strings.Repeat("y", 50)) {
				t.Fatalf("%q after %d", s.Text(), last)
			}
			got, last = got+1, n
		}
	}
	if uint64(got)+counted != all || counted == 0 || <-lost != counted {
		t.Errorf("%d lines were read and %d lost of %d", got, counted, all)
	}
	<-direct
	fmt.Fprintln(w, "the last")
	w.Close()
	for s.Scan() && (s.Text() == "" || s.Text() == "direct") { // the control's may come as late as this
	}
	if s.Text() != "the last" {
		t.Errorf("the last line is %q", s.Text())
	}
	if w.add([]byte("late\n"), w.queue.put); w.queue.lost != 1 {
		t.Errorf("%d lost after the end", w.queue.lost)
	}
}

func TestAWriterThatNobodyReadsEndsByItsDeadline(t *testing.T) {
	_, fd := stuckPipe(t)
	w := newLogWriter(fd, logBound)
	fmt.Fprintln(w, "never read")
	begin := time.Now()
	w.close(100 * time.Millisecond)
	if took := time.Since(begin); took < 100*time.Millisecond || took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	if w.queue.lost != 1 {
		t.Errorf("%d lines are counted as lost", w.queue.lost)
	}
}

// A reader that is gone costs its lines, not the writer.
func TestALogOutlivesItsReader(t *testing.T) {
	reader, fd := stuckPipe(t)
	_ = reader.Close()
	w := newLogWriter(fd, logBound)
	w.OnLost(func(uint64) { t.Error("a loss was reported to nobody") })
	fmt.Fprintln(w, "nobody is there")
	w.Close()
	if w.queue.lost != 1 {
		t.Errorf("%d lines are counted as lost", w.queue.lost)
	}
}

func TestALogIsWrittenToEveryKindOfFile(t *testing.T) {
	dir := t.TempDir()
	file, err := os.Create(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	socket := os.NewFile(uintptr(pair[0]), "socket")
	defer socket.Close()
	defer unix.Close(pair[1])
	text := strings.Repeat(strings.Repeat("z", 6000)+"\n", 100) // more than the socket takes at once
	for name, fd := range map[string]int{"file": int(file.Fd()), "socket": pair[1]} {
		read := make(chan string, 1)
		if name == "socket" {
			go func() { b := make([]byte, len(text)); n, _ := io.ReadFull(socket, b); read <- string(b[:n]) }()
		}
		w := newLogWriter(fd, logBound)
		for line := range strings.Lines(text) {
			fmt.Fprint(w, line)
		}
		w.close(20 * time.Second)
		if name == "file" {
			b, _ := os.ReadFile(file.Name())
			read <- string(b)
		}
		if got := <-read; got != text {
			t.Errorf("%s: %d bytes of %d, lost %d", name, len(got), len(text), w.queue.lost)
		}
	}
}

// What an event costs with its line written to a pipe that is read: by the emitter itself, and by the log's own writer.
func BenchmarkEmitToPipe(b *testing.B) {
	for name, own := range map[string]bool{"direct": false, "own writer": true} {
		b.Run(name, func(b *testing.B) {
			r, out, err := os.Pipe()
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			go func() { _, _ = io.Copy(io.Discard, r) }()
			var to io.Writer = out
			if own {
				w := NewLogWriter(out)
				defer w.Close()
				to = w
			}
			a := &Agent{events: newFeed[event](keptEvents, 0, nil), log: slog.New(slog.NewJSONHandler(to, nil))}
			b.ReportAllocs()
			for b.Loop() {
				a.emit(workerReady, slog.String("pool", "default"), slog.String("worker", "default-0.1"), slog.Int("pid", 1234), seconds("after_s", time.Second))
			}
			_ = out.Close()
		})
	}
}
