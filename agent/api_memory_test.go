package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pitboss-run/pitboss/ipc"
	"google.golang.org/grpc/peer"
)

func testMemory(limit Size) *apiMemory { return newAPIMemory(limit, slog.New(slog.DiscardHandler)) }

// conn opens a connection of a user with payload that is on its way in, in bytes.
func (m *apiMemory) conn(t *testing.T, uid uint32, payload int) *peerConn {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _ = theirs.Close() })
	c := &peerConn{Conn: ours, cred: peerCredentials{Cred: ipc.Cred{UID: uid}, load: &connLoad{}}, memory: m}
	c.release = func() { m.closed(c) }
	m.opened(c)
	t.Cleanup(func() { _ = c.Close() })
	c.cred.load.received = int64(payload)
	return c
}

// TestTheGreediestConnection is of the user who has most, and root's or our own only if nobody else has any.
func TestTheGreediestConnection(t *testing.T) {
	const mib = 1 << 20
	own := uint32(os.Getuid())
	for name, c := range map[string]struct {
		conns [][2]int // user, MiB
		want  int      // index, -1 for none
	}{
		"nobody":                          {nil, -1},
		"the largest of one user":         {[][2]int{{1000, 5}, {1000, 9}, {1000, 7}}, 1},
		"the user counts first":           {[][2]int{{1000, 9}, {1001, 5}, {1001, 6}}, 2},
		"root comes last":                 {[][2]int{{0, 90}, {1000, 5}}, 1},
		"root when nobody else has any":   {[][2]int{{0, 90}, {1000, 0}}, 0},
		"our own comes last":              {[][2]int{{int(own), 90}, {1000, 5}}, 1},
		"what does not matter is no help": {[][2]int{{1000, 0}, {1001, 0}}, -1},
	} {
		m := testMemory(64 * mib)
		var all []*peerConn
		for _, c := range c.conns {
			all = append(all, m.conn(t, uint32(c[0]), c[1]*mib))
		}
		got, load := m.greediest()
		switch {
		case c.want < 0 && got != nil, c.want >= 0 && got != all[c.want]:
			t.Errorf("%s: user %v with %d bytes", name, got, load)
		case got != nil && load != int64(c.conns[c.want][1])*mib:
			t.Errorf("%s: %d bytes", name, load)
		}
	}
}

// TestTheLoadOfAConnection follows its calls.
func TestTheLoadOfAConnection(t *testing.T) {
	m := testMemory(1 << 30)
	c := m.conn(t, 1000, 0)
	load := c.cred.load
	ctx := peer.NewContext(context.Background(), &peer.Peer{AuthInfo: c.cred})
	if loadOf(ctx) != load || loadOf(context.Background()) == load {
		t.Fatal("a call does not find the load of its connection")
	}
	expect := func(when string, want int64) {
		t.Helper()
		if got := load.total(); got != want {
			t.Errorf("%s: %d bytes, not %d", when, got, want)
		}
	}
	m.received(load, 10<<10)
	m.received(load, 100) // a header
	expect("on the way in", 10<<10)
	release, e := m.hold(load, 9<<10)
	if e != nil {
		t.Fatal(e)
	}
	expect("running", 9<<10+1<<10-callOverhead)
	m.answer(load, &Value{JSON: make([]byte, 20<<10)})
	expect("answered", 30<<10-callOverhead)
	release()
	expect("ended", 21<<10-callOverhead)
	if release, e = m.hold(load, 100); e != nil { // a small one, of which no bytes were counted
		t.Fatal(e)
	}
	release()
	expect("ended again", 20<<10)
	m.sent(load, 21<<10)
	expect("taken", 0)
	m.answer(load, &Value{JSON: make([]byte, 20<<10)})
	expect("answered again", 20<<10)
}

// TestHalfOfTheMemoryIsForArguments: the call that would take more is refused and leaves nothing behind.
func TestHalfOfTheMemoryIsForArguments(t *testing.T) {
	m := testMemory(64 << 20)
	load := &connLoad{}
	first, e := m.hold(load, 30<<20)
	if e != nil {
		t.Fatal(e)
	}
	if _, e := m.hold(load, 3<<20); e == nil || e.Reason != QueueFull || !strings.Contains(e.Message, "api.memory") {
		t.Fatalf("%v", e)
	}
	first()
	if m.held.Load() != 0 || load.total() != 0 {
		t.Errorf("%d bytes are left, and %d of the connection", m.held.Load(), load.total())
	}
	if _, e := m.hold(load, 32<<20); e != nil {
		t.Error(e)
	}
}

// TestAUserWhoseConnectionWasClosed may not come back at once; root may.
func TestAUserWhoseConnectionWasClosed(t *testing.T) {
	m := testMemory(1 << 20)
	greedy, root := m.conn(t, 1000, 8<<20), m.conn(t, 0, 0)
	held := make([]byte, 2<<20)
	m.look()
	runtime.KeepAlive(held)
	if err := greedy.SetDeadline(time.Now().Add(time.Second)); !errors.Is(err, io.ErrClosedPipe) {
		t.Error("it is not closed")
	}
	if !m.bans(1000) || m.bans(0) || m.bans(1001) {
		t.Error("not that user alone is kept out")
	}
	m.punish(0)
	if m.bans(0) {
		t.Error("root is kept out")
	}
	if _, open := m.conns[root]; !open {
		t.Error("root's connection is closed")
	}
}
