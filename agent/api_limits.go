package agent

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	pb "github.com/pitboss-run/pitboss/proto/pitboss/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"
)

const (
	// preambleLimit is how long a connection may take to say that it speaks HTTP/2; a half-open one ends then.
	preambleLimit = 10 * time.Second
	// A peer that is silent for peerSilence is asked for a sign of life and closed when it gives none within peerPatience.
	peerSilence  = 60 * time.Second
	peerPatience = 20 * time.Second
	// minPeerPing is the shortest interval at which a client may ask the same of the agent.
	minPeerPing = 5 * time.Second
	// maxHeaders bounds the metadata of one call in bytes, as decoded; stock clients send some hundred.
	maxHeaders = 32 << 10
	// maxName bounds the names in a call, and maxAdminRequest a whole message that is no call, in bytes.
	maxName         = 256
	maxAdminRequest = 16 << 10
	// spareStreams is how many streams one connection may have beyond the calls that the pools take: looks and health.
	spareStreams = 256
	// maxConnections and minConnections bound how many connections the descriptors at hand are turned into.
	maxConnections = 1024
	minConnections = 64
	// refusalPause is how often refused connections are logged at most.
	refusalPause = time.Second
)

// smallOrders refuses large messages where none belongs: only calls carry payloads, and what names something is repeated in
// errors.
func smallOrders(ctx context.Context, in any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if m, ok := in.(proto.Message); ok && info.FullMethod != pb.Pool_Call_FullMethodName {
		if size := proto.Size(m); size > maxAdminRequest {
			return nil, statusOf(failf(BadArguments, "the request has %d bytes, %d are possible", size, maxAdminRequest))
		}
	}
	return handler(ctx, in)
}

// serverLimits are the options that keep one bad client from costing others, or memory without bound. streams is how many
// calls one connection may have open; payload the largest message in bytes.
func serverLimits(streams, payload int) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(payload + messageSlack), grpc.MaxSendMsgSize(payload + messageSlack),
		grpc.MaxConcurrentStreams(uint32(streams)), grpc.MaxHeaderListSize(maxHeaders), grpc.ConnectionTimeout(preambleLimit),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: peerSilence, Timeout: peerPatience}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPeerPing, PermitWithoutStream: true}),
	}
}

// streamLimit is what the pools can take, queue included, so that it is the queue which says QUEUE_FULL. It is fixed for a connection, and
// a reload may add a pool: one of the defaults is reckoned with.
func (a *Agent) streamLimit() int {
	n := 0
	for _, p := range a.options.Config.Pools {
		n += p.Queue.Max + p.Workers
	}
	usual := DefaultPool()
	return spareStreams + max(n, usual.Queue.Max+usual.Workers)
}

// connectionLimit is how many connections fit into the descriptors that the workers leave.
func (a *Agent) connectionLimit() int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return minConnections
	}
	left := int(min(limit.Cur, 1<<20)) - spareDescriptors
	for _, p := range a.options.Config.Pools {
		left -= p.Workers * workerDescriptors
	}
	return min(max(left, minConnections), maxConnections)
}

// boundedListener accepts as many connections as there are descriptors for, and gives no user more than half of them; only
// root may always come, to look and to act. One that is over is closed at once: waiting would cost the others.
type boundedListener struct {
	net.Listener
	log    *slog.Logger
	limit  int
	memory *apiMemory

	mu      sync.Mutex // guards the following
	open    map[uint32]int
	total   int
	refused int       // since it was logged last
	logged  time.Time // monotonic
}

func newBoundedListener(l net.Listener, limit int, memory *apiMemory, log *slog.Logger) *boundedListener {
	return &boundedListener{Listener: l, log: log, limit: limit, memory: memory, open: map[uint32]int{}}
}

// Accept returns the next connection that may stay.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		cred, err := credentialsOf(conn)
		if err != nil {
			_ = conn.Close()
			l.refuse("cause", err)
			continue
		}
		if l.memory.bans(cred.UID) {
			_ = conn.Close()
			l.refuse("cause", "held too much memory", "user", cred.UID)
			continue
		}
		if !l.take(cred.UID) {
			_ = conn.Close()
			l.refuse("cause", "too many connections", "user", cred.UID, "limit", l.limit)
			continue
		}
		cred.load = &connLoad{}
		c := &peerConn{Conn: conn, cred: cred, memory: l.memory}
		c.release = sync.OnceFunc(func() { l.give(cred.UID); l.memory.closed(c) })
		l.memory.opened(c)
		return c, nil
	}
}

func (l *boundedListener) take(uid uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if uid != 0 && (l.total >= l.limit || l.open[uid] >= l.limit/2) || uid == 0 && l.open[0] >= l.limit {
		return false
	}
	l.open[uid]++
	l.total++
	return true
}

func (l *boundedListener) give(uid uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.open[uid]--; l.open[uid] == 0 {
		delete(l.open, uid)
	}
}

// refuse logs refusals, many as one line.
func (l *boundedListener) refuse(why ...any) {
	l.mu.Lock()
	l.refused++
	count := l.refused
	due := l.logged.IsZero() || time.Since(l.logged) >= refusalPause
	if due {
		l.refused, l.logged = 0, time.Now()
	}
	l.mu.Unlock()
	if due {
		l.log.Warn("refused connections", append([]any{"count", count}, why...)...)
	}
}

// peerConn is an accepted connection with its peer's credentials.
type peerConn struct {
	net.Conn
	cred    peerCredentials
	memory  *apiMemory
	release func()
}

func (c *peerConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.memory.received(c.cred.load, n)
	return n, err
}

func (c *peerConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.memory.sent(c.cred.load, n)
	return n, err
}

func (c *peerConn) Close() error {
	c.release()
	return c.Conn.Close()
}
