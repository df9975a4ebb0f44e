package main

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/pitboss-run/pitboss/proto/pitboss/v1"
	"golang.org/x/net/http2"
	"google.golang.org/protobuf/proto"
)

const (
	hoardStreams = 30
	hoardBody    = 15 << 20 // bytes of each: below limits.payload of hostilePools
)

// uploads sends all but the end of large requests: 30 on each of four connections, as fast as the agent takes them. One that
// is closed begins again.
func uploads(path string, ready func()) {
	attackAgain(path, ready, func(conn net.Conn, begun func()) {
		w := newWindows(conn)
		go w.follow()
		body := make([]byte, 16<<10)
		for i := range uint32(hoardStreams) {
			stream := 2*i + 1
			w.write(func() error { writeHeaders(w.framer, stream, "/pitboss.v1.Pool/Call", ""); return nil })
			prefix := []byte{0, 0, 0xf0, 0, 1} // gRPC's: not compressed, one byte more than is sent
			if !w.send(stream, prefix) {
				return
			}
			for sent := 0; sent < hoardBody; sent += len(body) {
				if !w.send(stream, body) {
					return
				}
			}
			begun()
		}
		<-w.over
	})
}

// unreadAnswers asks for large results on four connections and does not read them.
func unreadAnswers(path string, ready func()) {
	attackAgain(path, ready, func(conn net.Conn, begun func()) {
		text, err := proto.Marshal(&pb.CallRequest{Pool: "other", Tool: "zeros", Json: `{"n":15000000}`})
		if err != nil {
			panic(err)
		}
		framer := http2.NewFramer(conn, conn)
		_, _ = io.WriteString(conn, http2.ClientPreface)
		_ = framer.WriteSettings()
		for i := range uint32(hoardStreams) {
			writeHeaders(framer, 2*i+1, "/pitboss.v1.Pool/Call", "")
			if framer.WriteData(2*i+1, true, append([]byte{0, 0, 0, 0, byte(len(text))}, text...)) != nil {
				return
			}
		}
		for { // acknowledges nothing, and sees when it is closed
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			if _, is := frame.(*http2.DataFrame); is {
				begun()
			}
		}
	})
}

func attackAgain(path string, ready func(), once func(conn net.Conn, begun func())) {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				conn, err := net.Dial("unix", path)
				if err != nil {
					time.Sleep(time.Millisecond)
					continue
				}
				once(conn, ready)
				_ = conn.Close()
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	wg.Wait()
}

// windows writes DATA as HTTP/2's flow control lets it (RFC 9113 section 5.2).
type windows struct {
	conn   net.Conn
	framer *http2.Framer
	over   chan struct{} // closed when the agent has closed the connection

	mu     sync.Mutex // guards the following, and writing
	change sync.Cond
	whole  int64
	each   map[uint32]int64
	closed bool
}

const firstWindow = 65535

func newWindows(conn net.Conn) *windows {
	w := &windows{conn: conn, framer: http2.NewFramer(conn, conn), over: make(chan struct{}), whole: firstWindow, each: map[uint32]int64{}}
	w.change.L = &w.mu
	_, _ = io.WriteString(conn, http2.ClientPreface)
	_ = w.framer.WriteSettings()
	return w
}

// follow reads until the connection ends.
func (w *windows) follow() {
	defer close(w.over)
	for {
		frame, err := w.framer.ReadFrame()
		w.mu.Lock()
		switch f := frame.(type) {
		case *http2.WindowUpdateFrame:
			if f.StreamID == 0 {
				w.whole += int64(f.Increment)
			} else {
				w.each[f.StreamID] += int64(f.Increment)
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				_ = w.framer.WritePing(true, f.Data)
			}
		}
		w.closed = err != nil
		w.change.Broadcast()
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (w *windows) write(do func() error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = do()
}

// send reports false when the connection is closed.
func (w *windows) send(stream uint32, data []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	size := int64(len(data))
	for !w.closed && (w.whole < size || firstWindow+w.each[stream] < size) {
		w.change.Wait()
	}
	w.whole -= size
	w.each[stream] -= size
	return !w.closed && w.framer.WriteData(stream, false, data) == nil
}

// TestTheMemoryBoundIsSeen: with room for it, the same attack makes the agent grow far beyond the bound.
func TestTheMemoryBoundIsSeen(t *testing.T) {
	f := newFieldWith(t, strings.Replace(hostilePools, "memory: 64MiB", "memory: 8GiB", 1))
	for _, mode := range []string{"uploads", "answers"} {
		st, _ := f.victim.status()
		before := residentBytes(t, st.Agent.PID)
		stop := f.victim.attackBy(t, mode)
		f.victim.await("memory beyond the bound", func() bool { return residentBytes(t, st.Agent.PID) > before+maxGrowth+64<<20 })
		stop()
	}
}
