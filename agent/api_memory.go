package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/peer"
)

const (
	// bulk is the smallest read or write of a connection that counts as payload, in bytes: headers and small calls are below.
	bulk = 4 << 10
	// lookEvery is how many bytes clients move between two looks at the heap.
	lookEvery = 8 << 20
	// callOverhead is what a call's headers and frames add to its payload, in bytes; stock clients need less, so that it does not
	// add up on a connection that is never idle.
	callOverhead = 512
	// banTime is how long a user may not connect after one of its connections was closed for its memory.
	banTime = 2 * time.Second
)

// apiMemory bounds what clients make the agent hold. Arguments of calls that wait or run are counted, and a call that would
// take them over half of the limit is refused. What is still on its way in or out lies in gRPC's buffers, of which only
// connections tell: when all of it is over the limit, the connection with the largest payload is closed, of the user who has
// most, and that user may not come back for some seconds.
type apiMemory struct {
	limit int64 // bytes
	own   uint32
	log   *slog.Logger
	held  atomic.Int64 // arguments of all calls
	moved atomic.Int64 // payload in and out since the last look

	looking sync.Mutex // one look at a time

	mu     sync.Mutex // guards the following
	conns  map[*peerConn]struct{}
	banned map[uint32]time.Time // until when, monotonic
}

func newAPIMemory(limit Size, log *slog.Logger) *apiMemory {
	return &apiMemory{limit: int64(limit), own: uint32(os.Getuid()), log: log, conns: map[*peerConn]struct{}{}, banned: map[uint32]time.Time{}}
}

// connLoad is the payload of one connection that is in the agent, in bytes: nearly, since HTTP/2's own bytes come with it.
type connLoad struct {
	mu       sync.Mutex // guards the following
	received int64      // of requests that are not complete
	held     int64      // arguments of its calls
	unsent   int64      // results that it has not taken
}

func (l *connLoad) total() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.received + l.held + max(l.unsent, 0)
}

func (l *connLoad) begin(size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.received = max(0, l.received-size-callOverhead)
	l.held += size
}

func (l *connLoad) end(size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held -= size
}

func (l *connLoad) answer(size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unsent = max(l.unsent, 0) + size
}

// loadOf is the load of the connection that a call came over; a new one if it is none of ours, as in a test.
func loadOf(ctx context.Context) *connLoad {
	if p, ok := peer.FromContext(ctx); ok {
		if cred, ok := p.AuthInfo.(peerCredentials); ok && cred.load != nil {
			return cred.load
		}
	}
	return &connLoad{}
}

// hold admits the arguments of a call until release.
func (m *apiMemory) hold(load *connLoad, size int64) (release func(), e *Error) {
	if all := m.held.Add(size); all > m.limit/2 {
		m.held.Add(-size)
		load.begin(size)
		load.end(size)
		return nil, &Error{Reason: QueueFull, Message: fmt.Sprintf("the calls of all clients hold %d MiB of arguments, with these %d MiB it would be more than the %d MiB that api.memory allows; retry later or raise it",
			(all-size)>>20, size>>20, m.limit>>21)}
	}
	load.begin(size)
	return func() { m.held.Add(-size); load.end(size) }, nil
}

// answer is told of every result and every item of a stream before it is sent.
func (m *apiMemory) answer(l *connLoad, v *Value) {
	n := v.size()
	if n < bulk {
		return
	}
	l.answer(int64(n))
	m.count(n)
}

// opened and closed keep the list of connections.
func (m *apiMemory) opened(c *peerConn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conns[c] = struct{}{}
}

func (m *apiMemory) closed(c *peerConn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.conns, c)
}

// received and sent are told of every read and write of a connection.
func (m *apiMemory) received(l *connLoad, n int) {
	if n < bulk {
		return
	}
	l.mu.Lock()
	l.received += int64(n)
	l.mu.Unlock()
	m.count(n)
	runtime.Gosched() // a connection that always has more to read would keep small calls of others from this thread for milliseconds
}

func (m *apiMemory) sent(l *connLoad, n int) {
	if n < bulk {
		return
	}
	l.mu.Lock()
	l.unsent -= int64(n)
	l.mu.Unlock()
	runtime.Gosched()
}

// count looks at the heap from time to time.
func (m *apiMemory) count(n int) {
	if m.moved.Add(int64(n)) < lookEvery {
		return
	}
	m.moved.Store(0)
	if m.looking.TryLock() {
		defer m.looking.Unlock()
		m.look()
	}
}

// look closes connections while their payload is over the limit. The heap is the witness that what was counted is there.
func (m *apiMemory) look() {
	if heapBytes() <= m.limit {
		return
	}
	for payload := m.payload(); payload > m.limit; payload = m.payload() {
		c, load := m.greediest()
		if c == nil {
			return
		}
		m.log.Warn("closed a connection: clients hold more memory than api.memory allows", "user", c.cred.UID, "pid", c.cred.PID,
			"payload_bytes", load, "limit_bytes", m.limit)
		m.punish(c.cred.UID)
		_ = c.Close()
	}
}

// payload is that of all connections.
func (m *apiMemory) payload() (all int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.conns {
		all += c.cred.load.total()
	}
	return all
}

// greediest is the connection to close, nil if none holds enough to matter.
func (m *apiMemory) greediest() (worst *peerConn, load int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	loads, users := map[*peerConn]int64{}, map[uint32]int64{}
	for c := range m.conns {
		loads[c] = c.cred.load.total()
		users[c.cred.UID] += loads[c]
	}
	worse := func(a, b *peerConn) bool {
		if m.spares(a.cred.UID) != m.spares(b.cred.UID) {
			return m.spares(b.cred.UID)
		}
		if a.cred.UID != b.cred.UID {
			return users[a.cred.UID] > users[b.cred.UID]
		}
		return loads[a] > loads[b]
	}
	for c, n := range loads {
		if n > m.limit/1024 && (worst == nil || worse(c, worst)) {
			worst = c
		}
	}
	return worst, loads[worst]
}

// spares says whose connections are closed last and who may always come back: root and the agent's own user, because they must
// be able to look and to act.
func (m *apiMemory) spares(uid uint32) bool { return uid == 0 || uid == m.own }

// punish keeps a user from connecting again at once.
func (m *apiMemory) punish(uid uint32) {
	if m.spares(uid) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.banned[uid] = time.Now().Add(banTime)
}

// bans says whether a user may not connect now.
func (m *apiMemory) bans(uid uint32) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	until, banned := m.banned[uid]
	if banned && time.Now().After(until) {
		delete(m.banned, uid)
		return false
	}
	return banned
}

// MemoryTarget is the memory in bytes that a process with this agent should keep below, for runtime/debug.SetMemoryLimit:
// requests and answers of clients with as much again in copies, and a result of each worker. It is no hard limit; the runtime
// collects more often near it and gives back what it has collected.
func (c Config) MemoryTarget() int64 {
	target := 2 * int64(c.API.Memory)
	for _, p := range c.Pools {
		target += int64(p.Workers) * int64(p.Limits.Payload)
	}
	return target
}

// heapBytes is what Go objects take, garbage that was not found yet included (runtime/metrics).
func heapBytes() int64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}
