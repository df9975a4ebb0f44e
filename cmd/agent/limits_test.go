package main

import (
	"context"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
	pb "github.com/pitboss-run/pitboss/proto/pitboss/v1"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// TestHalfOpenConnectionsEnd by themselves, whether they say nothing or half a preface; one that speaks HTTP/2 stays.
func TestHalfOpenConnectionsEnd(t *testing.T) {
	h := newHost(t)
	h.serve(onePool)
	var idle net.Conn
	ended := make(chan string, 2)
	for _, said := range []string{"", http2.ClientPreface[:10], http2.ClientPreface} {
		conn, err := net.Dial("unix", h.path("pitboss/agent.sock"))
		must(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, said)
		must(t, err)
		if said == http2.ClientPreface {
			must(t, http2.NewFramer(conn, conn).WriteSettings())
			idle = conn
			continue
		}
		go func() { _, _ = io.Copy(io.Discard, conn); ended <- said }()
	}
	for range 2 {
		select {
		case <-ended:
		case <-time.After(patience):
			t.Fatal("a half-open connection is kept")
		}
	}
	framer := http2.NewFramer(idle, idle)
	must(t, framer.WritePing(false, [8]byte{1}))
	must(t, idle.SetReadDeadline(time.Now().Add(patience)))
	for {
		frame, err := framer.ReadFrame()
		must(t, err)
		if ping, is := frame.(*http2.PingFrame); is && ping.IsAck() {
			return
		}
	}
}

// TestTooMuchIsRefused by a typed error that costs only itself.
func TestTooMuchIsRefused(t *testing.T) {
	h := newHost(t)
	h.serve(onePool)
	conn := attackConn(h.path("pitboss/agent.sock"))
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	pool, admin := pb.NewPoolClient(conn), pb.NewAdminClient(conn)
	good := &pb.CallRequest{Tool: "add", Json: `{"a":1,"b":2}`}
	long := metadata.AppendToOutgoingContext(ctx, "x-long", strings.Repeat("m", 40<<10))
	_, headers := pool.Call(long, good)
	_, name := pool.Call(ctx, &pb.CallRequest{Tool: strings.Repeat("x", 257)})
	_, ping := admin.Ping(ctx, &pb.PingRequest{Worker: strings.Repeat("w", 17<<10)})
	for what, c := range map[string]struct {
		err  error
		code codes.Code
		text string
	}{
		"metadata": {headers, codes.Internal, "header list size"},
		"name":     {name, codes.InvalidArgument, "256 are possible"},
		"order":    {ping, codes.InvalidArgument, "16384 are possible"},
	} {
		if status.Code(c.err) != c.code || !strings.Contains(c.err.Error(), c.text) {
			t.Errorf("%s: %v", what, c.err)
		}
	}
	if out, err := pool.Call(metadata.AppendToOutgoingContext(ctx, "x-long", strings.Repeat("m", 20<<10)), good); err != nil || out.GetJson() != "3" {
		t.Errorf("%v %v", out, err)
	}
}

// TestNoUserTakesEveryConnection: somebody else's flood ends at half of them, and root still comes in.
func TestNoUserTakesEveryConnection(t *testing.T) {
	f := newField(t)
	st, _ := f.victim.status()
	sockets := func() (n int) {
		for _, target := range files(t, st.Agent.PID) {
			if strings.HasPrefix(target, "socket:") {
				n++
			}
		}
		return n
	}
	before := sockets()
	stop := f.victim.attackBy(t, "connections")
	taken := sockets() - before
	if taken < 30 || taken > 512+8 {
		t.Errorf("another user has %d connections", taken)
	}
	for range 20 { // each a connection of its own
		c, err := client.Dial(t.Context(), f.victim.path("pitboss/agent.sock"))
		must(t, err)
		callsOf(t, c)
		_ = c.Close()
	}
	stop()
	f.victim.await("all closed again", func() bool { return sockets() <= before })
	log, err := os.ReadDir(f.victim.dir)
	must(t, err)
	found := false
	for _, entry := range log {
		found = found || strings.HasPrefix(entry.Name(), "log") && strings.Contains(read(t, f.victim.path(entry.Name())), "refused connections")
	}
	if !found {
		t.Error("no refusal is in the log")
	}
}

// TestArgumentsOfAllCallsAreBounded: the call that would take more than half of api.memory is refused while others wait, and
// let in when they have ended.
func TestArgumentsOfAllCallsAreBounded(t *testing.T) {
	h := newHost(t)
	h.serve(hostilePools)
	conn := attackConn(h.path("pitboss/agent.sock"))
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	pool := pb.NewPoolClient(conn)
	naps, leave := context.WithCancel(ctx)
	var calls sync.WaitGroup
	for range 2 { // both workers
		calls.Go(func() {
			_, _ = pool.Call(naps, &pb.CallRequest{Pool: "default", Tool: "nap", Json: `{"seconds":600}`})
		})
	}
	queued := func(n int) func() bool {
		return func() bool { st, ok := h.status(); return ok && st.Pools[0].Busy == 2 && st.Pools[0].Queued == n }
	}
	h.await("both workers busy", queued(0))
	large := &pb.CallRequest{Pool: "default", Tool: "size", Json: `{"data":{"$part":0}}`, Parts: [][]byte{make([]byte, 12<<20)}}
	for range 2 {
		calls.Go(func() {
			if out, err := pool.Call(ctx, large); err != nil || out.GetJson() != `{"size":12582912,"name":"x"}` {
				t.Errorf("%v %v", out.GetJson(), err)
			}
		})
	}
	h.await("two calls in the queue", queued(2))
	if _, err := pool.Call(ctx, large); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "api.memory") {
		t.Errorf("%v", err)
	}
	leave()
	calls.Wait()
	if _, err := pool.Call(ctx, large); err != nil {
		t.Error(err)
	}
}
