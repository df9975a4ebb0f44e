package ipc

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestErrorsNameWhatIsMissing(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&TruncatedError{Data: true}, "packet arrived without all of its bytes"},
		{&TruncatedError{Control: true}, "packet arrived without all of its descriptors"},
		{&TruncatedError{Data: true, Control: true}, "packet arrived without all of its bytes and descriptors"},
		{&TooLargeError{What: "frame", Size: 9, Limit: 8}, "frame of 9 bytes is over the limit of 8"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// TestNoPairWithoutDescriptors: at RLIMIT_NOFILE there is no pair, the cause can be asked for, and nothing is left open.
func TestNoPairWithoutDescriptors(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	before := openFDs(t)
	low := limit
	low.Cur = 3
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	_, _, err := PacketPair()
	if back := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); back != nil {
		t.Fatal(back)
	}
	if !errors.Is(err, unix.EMFILE) || err.Error() != "cannot make socket pair: too many open files (errno 24)" {
		t.Errorf("%v", err)
	}
	if after := openFDs(t); after != before {
		t.Errorf("%d descriptors, before %d", after, before)
	}
}

// TestAFrameToAReaderThatHasGone fails whether it goes out in one piece or in several.
func TestAFrameToAReaderThatHasGone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	_ = r.Close()
	for _, size := range []int{1, wholeFrame + 1} {
		if err := NewFrameWriter(w).Write(&Frame{Type: Result, Call: 1, JSON: []byte("{}"), Parts: [][]byte{make([]byte, size)}}); !errors.Is(err, unix.EPIPE) {
			t.Errorf("a part of %d bytes: %v", size, err)
		}
	}
}

// TestAFrameCutAfterItsHeader is no clean end, though nothing of the body came.
func TestAFrameCutAfterItsHeader(t *testing.T) {
	whole := AppendFrame(nil, &Frame{Type: Result, Call: 1, JSON: []byte("{}")})
	for n, want := range map[int]error{0: io.EOF, HeaderSize: io.ErrUnexpectedEOF, HeaderSize + 1: io.ErrUnexpectedEOF, len(whole): nil} {
		if _, err := NewFrameReader(bytes.NewReader(whole[:n]), Data, 1<<20).Next(); err != want {
			t.Errorf("%d bytes of it: %v, want %v", n, err, want)
		}
	}
}
