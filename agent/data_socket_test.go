package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// dataPair is a data socket and the worker's end of it.
func dataPair(t *testing.T) (*dataSocket, *os.File) {
	t.Helper()
	ours, theirs, err := streamPair("test")
	if err != nil {
		t.Fatal(err)
	}
	s, err := newDataSocket(ours, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close(); _ = theirs.Close() })
	return s, theirs
}

// drainInput stands for the worker's reader goroutine; the channel is closed when it has left.
func drainInput(s *dataSocket) <-chan struct{} {
	left := make(chan struct{})
	go func() {
		defer close(left)
		defer s.readerLeft()
		_, _ = io.Copy(io.Discard, s)
	}()
	return left
}

func anHour() patience {
	return patience{ctx: context.Background(), deadline: time.Now().Add(time.Hour)}
}

func TestDataSocketCarriesMoreThanTheKernelHolds(t *testing.T) {
	s, theirs := dataPair(t)
	left := drainInput(s)
	sent := make([]byte, 8<<20)
	_, _ = rand.Read(sent)
	got := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(theirs)
		got <- b
	}()
	for part := sent; len(part) > 0; {
		n := min(len(part), 3<<20)
		if err := s.write(anHour(), part[:n]); err != nil {
			t.Fatal(err)
		}
		part = part[n:]
	}
	if err := unix.Shutdown(int(s.socket.Fd()), unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	if b := <-got; !bytes.Equal(b, sent) {
		t.Errorf("%d bytes came of %d, or others", len(b), len(sent))
	}
	s.close()
	<-left
}

func TestDataSocketReadsWhatComesAndThenEOF(t *testing.T) {
	s, theirs := dataPair(t)
	sent := make([]byte, 4<<20)
	_, _ = rand.Read(sent)
	go func() {
		_, _ = theirs.Write(sent)
		_ = theirs.Close()
	}()
	got, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came of %d: %v", len(got), len(sent), err)
	}
}

// Whatever ends a writer's wait, what it could not send is not sent.
func TestDataSocketWriterLeaves(t *testing.T) {
	gone, cancel := context.WithCancel(context.Background())
	for name, c := range map[string]struct {
		patience patience
		end      func(*dataSocket, *os.File)
		want     error
	}{
		"at its deadline":         {patience{context.Background(), time.Now().Add(50 * time.Millisecond)}, func(*dataSocket, *os.File) {}, os.ErrDeadlineExceeded},
		"with its client":         {patience{gone, time.Now().Add(time.Hour)}, func(*dataSocket, *os.File) { cancel() }, context.Canceled},
		"when the link is closed": {anHour(), func(s *dataSocket, _ *os.File) { s.close() }, nil},
		"when the worker is gone": {anHour(), func(_ *dataSocket, theirs *os.File) { _ = theirs.Close() }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s, theirs := dataPair(t)
			left := drainInput(s)
			wrote := make(chan error, 1)
			go func() { wrote <- s.write(c.patience, make([]byte, 8<<20)) }()
			awaitFull(t, s)
			c.end(s, theirs)
			select {
			case err := <-wrote:
				if err == nil || (c.want != nil && !errors.Is(err, c.want)) {
					t.Errorf("%v, want %v", err, c.want)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("the writer still waits")
			}
			s.close()
			<-left
		})
	}
}

// awaitFull returns when the socket takes no more: its writer waits, or will.
func awaitFull(t *testing.T, s *dataSocket) {
	t.Helper()
	for limit := time.Now().Add(10 * time.Second); ; {
		fds := []unix.PollFd{{Fd: int32(s.socket.Fd()), Events: unix.POLLOUT}}
		if n, err := unix.Poll(fds, 0); err == nil && n == 0 {
			return
		}
		if time.Now().After(limit) {
			t.Fatal("the socket never filled up")
		}
	}
}

// A close in the middle of reads and writes ends both; the race detector looks on.
func TestDataSocketCloseInUse(t *testing.T) {
	for range 200 {
		s, theirs := dataPair(t)
		left := drainInput(s)
		wrote := make(chan struct{})
		go func() {
			defer close(wrote)
			for s.write(anHour(), make([]byte, 64<<10)) == nil {
			}
		}()
		_, _ = io.CopyN(theirs, bytes.NewReader(make([]byte, 1<<10)), 1<<10)
		s.close()
		<-left
		<-wrote
		_ = theirs.Close()
	}
}

// The point of the socket's own epoll instance: the worker's reading is no event for the agent.
func TestDataSocketIsNotWokenByTheWorkersReading(t *testing.T) {
	s, theirs := dataPair(t)
	if err := s.write(anHour(), []byte("request")); err != nil {
		t.Fatal(err)
	}
	readable := func() int {
		var n int
		var inner error
		if err := s.events.Control(func(fd uintptr) {
			n, inner = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		}); err != nil || inner != nil {
			t.Fatal(err, inner)
		}
		return n
	}
	if _, err := io.ReadFull(theirs, make([]byte, 7)); err != nil {
		t.Fatal(err)
	}
	if readable() != 0 {
		t.Error("the worker read its request, and that was an event")
	}
	if _, err := theirs.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	if readable() != 1 {
		t.Error("the worker answered, and that was no event")
	}
}
