package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "github.com/pitboss-run/pitboss/proto/pitboss/v1"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
)

// attackMode makes this test binary a hostile client of the socket in attackSocket, until its standard input ends.
const (
	attackMode   = "PITBOSS_TEST_ATTACK"
	attackSocket = "PITBOSS_TEST_SOCKET"
	// controlAttack is one that must be seen: proper calls that keep every worker of the pool busy.
	controlAttack = "control"
)

// attacks are named misbehaviours. Each begins its work, calls ready once it is in full swing, and never returns by itself.
var attacks = map[string]func(path string, ready func()){
	"half-open":   halfOpen,
	"connections": connectionFlood,
	"garbage":     garbage,
	"requests":    badRequests,
	"metadata":    hugeMetadata,
	"readers":     slowReaders,
	"bodies":      slowBodies,
	"streams":     fastStreams,
	"uploads":     uploads,
	"answers":     unreadAnswers,

	controlAttack: busyWorkers,
}

func attack(mode string) int {
	begin := attacks[mode]
	if begin == nil {
		return 1
	}
	ready := sync.OnceFunc(func() { fmt.Println("attacking") })
	go begin(os.Getenv(attackSocket), ready)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// halfOpen keeps connections that never get as far as HTTP/2: half say nothing, half stop in the middle of the preface.
func halfOpen(path string, ready func()) {
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			for {
				conn, err := net.Dial("unix", path)
				if err != nil {
					time.Sleep(10 * time.Millisecond)
					continue
				}
				if i%2 == 0 {
					_, _ = io.WriteString(conn, http2.ClientPreface[:10])
				}
				if i == 199 {
					ready()
				}
				_, _ = io.Copy(io.Discard, conn) // until the agent has had enough
				_ = conn.Close()
			}
		})
	}
	wg.Wait()
}

// connectionFlood takes and keeps every connection that it can get, and tries on.
func connectionFlood(path string, _ func()) {
	var kept []net.Conn
	for tries := 0; ; tries++ {
		conn, err := net.Dial("unix", path)
		if err == nil {
			_, _ = io.WriteString(conn, http2.ClientPreface)
			_ = http2.NewFramer(conn, conn).WriteSettings()
			kept = append(kept, conn)
		}
		if tries == 3000 {
			fmt.Println("attacking")
		}
		if tries > 3000 { // as many as a client can keep up for minutes
			time.Sleep(time.Millisecond)
			if len(kept) > 3000 {
				_ = kept[0].Close()
				kept = kept[1:]
			}
		}
	}
}

// garbage speaks the preface and then noise, also as frames of every type.
func garbage(path string, ready func()) {
	noise := make([]byte, 4096)
	for n := 0; ; n++ {
		conn, err := net.Dial("unix", path)
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		_, _ = io.WriteString(conn, http2.ClientPreface)
		framer := http2.NewFramer(conn, conn)
		_ = framer.WriteSettings()
		for i := range noise {
			noise[i] = byte(rand.Uint32())
		}
		if n%2 == 0 {
			_ = framer.WriteRawFrame(http2.FrameType(n%12), http2.Flags(n), uint32(n%7), noise)
		} else {
			_, _ = conn.Write(noise)
		}
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
		if n == 20 {
			ready()
		}
	}
}

func attackConn(path string) *grpc.ClientConn {
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		panic(err)
	}
	return conn
}

// badRequests floods with calls that must be refused, from four clients, each with one call after another.
func badRequests(path string, ready func()) {
	bad := []*pb.CallRequest{
		{Tool: "nothing"}, {}, {Tool: "add", Json: `{"a":`}, {Tool: "add", Json: strings.Repeat("[", 100000)}, {Tool: "add", Json: `[]`},
		{Pool: "\x00", Tool: "add"}, {Tool: strings.Repeat("x", 100000)},
		// What only the worker can refuse: one of another pool, since a client that goes away in the middle costs a worker.
		{Pool: "other", Tool: "add", Json: `{"a":{"$part":7}}`}, {Pool: "other", Tool: "add", Json: `{"a":1}`},
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			conn := attackConn(path)
			pool := pb.NewPoolClient(conn)
			for n := i; ; n++ {
				if n%len(bad) == 0 {
					_ = conn.Invoke(context.Background(), "/pitboss.v1.Admin/Stop", &pb.StopRequest{}, &pb.StopResponse{})
					_ = conn.Invoke(context.Background(), "/pitboss.v1.Admin/Ping", &pb.PingRequest{Worker: strings.Repeat("w", 1<<20)}, &pb.PingResponse{})
					_ = conn.Invoke(context.Background(), "/no.such/Method", &pb.StopRequest{}, &pb.StopResponse{})
				}
				_, _ = pool.Call(context.Background(), bad[n%len(bad)])
				time.Sleep(2 * time.Millisecond)
				if n > 20 {
					ready()
				}
			}
		})
	}
	wg.Wait()
}

// hugeMetadata sends calls with metadata up to 1 MiB, against what the agent says it takes.
func hugeMetadata(path string, ready func()) {
	text := strings.Repeat("m", 1<<20)
	for n := 0; ; n++ {
		conn, err := net.Dial("unix", path)
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		_, _ = io.WriteString(conn, http2.ClientPreface)
		framer := http2.NewFramer(conn, conn)
		_ = framer.WriteSettings()
		writeHeaders(framer, 1, "/pitboss.v1.Pool/Call", text[:1<<(10+n%11)])
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
		if n == 20 {
			ready()
		}
	}
}

// writeHeaders begins a call with one header more, in as many frames as it takes.
func writeHeaders(framer *http2.Framer, stream uint32, method, extra string) {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", method}, {":authority", "localhost"},
		{"content-type", "application/grpc"}, {"te", "trailers"}, {"x-extra", extra}} {
		_ = encoder.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	rest := block.Bytes()
	part := rest[:min(len(rest), 16<<10)]
	rest = rest[len(part):]
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: part, EndHeaders: len(rest) == 0})
	for len(rest) > 0 {
		part = rest[:min(len(rest), 16<<10)]
		rest = rest[len(part):]
		if framer.WriteContinuation(stream, len(rest) == 0, part) != nil {
			return
		}
	}
}

// slowReaders asks for endless streams, more than the pool has workers, and reads no more once HTTP/2's window is full.
func slowReaders(path string, ready func()) {
	text, err := proto.Marshal(&pb.CallStreamRequest{Call: &pb.CallRequest{Pool: "other", Tool: "count", Json: `{"n":1000000000}`}})
	if err != nil {
		panic(err)
	}
	body := append([]byte{0, 0, 0, 0, byte(len(text))}, text...) // gRPC's prefix: not compressed, length
	var full atomic.Int32
	for range 20 {
		conn, err := net.Dial("unix", path)
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(conn, http2.ClientPreface)
		framer := http2.NewFramer(conn, conn)
		_ = framer.WriteSettings()
		writeHeaders(framer, 1, "/pitboss.v1.Pool/CallStream", "")
		_ = framer.WriteData(1, true, body)
		go func() {
			for got := 0; got < 65535; { // what a stream may send before it must hear of its reader
				frame, err := framer.ReadFrame()
				if err != nil {
					return // of those that wait in the queue
				}
				if data, is := frame.(*http2.DataFrame); is {
					got += len(data.Data())
				}
			}
			if full.Add(1) == 2 {
				ready() // both workers of the pool are held
			}
		}()
	}
	select {}
}

// fastStreams reads endless streams, as many as the other pool has workers, as fast as they come.
func fastStreams(path string, ready func()) {
	for range 2 {
		go func() {
			stream, err := pb.NewPoolClient(attackConn(path)).CallStream(context.Background(),
				&pb.CallStreamRequest{Call: &pb.CallRequest{Pool: "other", Tool: "count", Json: `{"n":1000000000}`}})
			for n := 0; err == nil; n++ {
				if _, err = stream.Recv(); n == 1000 {
					ready()
				}
			}
			panic(err)
		}()
	}
	select {}
}

// slowBodies begins calls that promise 100 MB and send 16 KiB of it: as many as one connection may have, on four of them.
func slowBodies(path string, ready func()) {
	body := append([]byte{0, 6, 0, 0, 0}, make([]byte, 16<<10-5)...) // gRPC's prefix: not compressed, 0x06000000 bytes
	for range 4 {
		conn, err := net.Dial("unix", path)
		if err != nil {
			panic(err)
		}
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		_, _ = io.WriteString(conn, http2.ClientPreface)
		framer := http2.NewFramer(conn, conn)
		_ = framer.WriteSettings()
		sent := 0
		for stream := uint32(1); stream < 1000; stream += 2 {
			writeHeaders(framer, stream, "/pitboss.v1.Pool/Call", "")
			if sent += len(body); sent < 60<<10 { // the connection's window
				_ = framer.WriteData(stream, false, body)
			}
		}
	}
	ready()
	select {}
}

// busyWorkers has more calls in flight than the victim's pool has workers, by short naps.
func busyWorkers(path string, ready func()) {
	pool := pb.NewPoolClient(attackConn(path))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				_, _ = pool.Call(context.Background(), &pb.CallRequest{Pool: "default", Tool: "nap", Json: `{"seconds":0.01}`})
				ready()
			}
		})
	}
	wg.Wait()
}
