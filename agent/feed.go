package agent

import (
	"sync"
	"time"
)

// feedDepth is how many entries may wait for one subscriber before it loses some.
const feedDepth = 1024

// entry is one thing that was published; seq grows by one with each.
type entry[T any] struct {
	seq   uint64
	time  time.Time
	value T
}

// feed keeps the last entries and hands new ones to whoever follows. Publishing never waits: a follower that is too slow
// loses entries, which it sees as a gap in seq.
type feed[T any] struct {
	mu       sync.Mutex // guards the following; nothing is waited for and no other lock is taken while it is held
	ring     []entry[T]
	first    int // index of the oldest in ring
	count    int
	bytes    int
	maxBytes int         // 0 for no bound but the number
	size     func(T) int // in bytes; nil with maxBytes 0
	seq      uint64
	lost     uint64 // entries that followers did not get
	closed   bool
	last     uint64 // seq when it was closed
	follow   map[*follower[T]]struct{}
}

// follower is one subscriber; entries is closed when the feed is.
type follower[T any] struct{ entries chan entry[T] }

func newFeed[T any](entries, maxBytes int, size func(T) int) *feed[T] {
	return &feed[T]{ring: make([]entry[T], entries), maxBytes: maxBytes, size: size, follow: map[*follower[T]]struct{}{}}
}

// publish costs a lock and a send to each follower that has room.
func (f *feed[T]) publish(value T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq++
	e := entry[T]{f.seq, time.Now(), value}
	f.keep(e)
	for s := range f.follow {
		select {
		case s.entries <- e:
		default:
			f.lost++
		}
	}
}

func (f *feed[T]) keep(e entry[T]) {
	if f.count == len(f.ring) {
		f.forgetOldest()
	}
	f.ring[(f.first+f.count)%len(f.ring)] = e
	f.count++
	if f.maxBytes == 0 {
		return
	}
	f.bytes += f.size(e.value)
	for f.bytes > f.maxBytes && f.count > 1 {
		f.forgetOldest()
	}
}

func (f *feed[T]) forgetOldest() {
	if f.maxBytes > 0 {
		f.bytes -= f.size(f.ring[f.first].value)
	}
	f.ring[f.first] = entry[T]{}
	f.first = (f.first + 1) % len(f.ring)
	f.count--
}

// read returns what is kept, oldest first. A follower gets what comes after it, without a gap and without a double; the
// caller gives it back to leave. After close there is no follower to be had: its channel is closed.
func (f *feed[T]) read(follow bool) (kept []entry[T], s *follower[T]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.count {
		kept = append(kept, f.ring[(f.first+i)%len(f.ring)])
	}
	if !follow {
		return kept, nil
	}
	s = &follower[T]{make(chan entry[T], feedDepth)}
	if f.closed {
		close(s.entries)
	} else {
		f.follow[s] = struct{}{}
	}
	return kept, s
}

func (f *feed[T]) leave(s *follower[T]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.follow, s)
}

// close ends every follower, after what it has not read yet.
func (f *feed[T]) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed, f.last = true, f.seq
	for s := range f.follow {
		close(s.entries)
		delete(f.follow, s)
	}
}

// each hands every kept entry, and with follow every later one, to take, until that fails, done is closed or the feed is.
// Where it was too slow for some, lost is told how many, in their place.
func (f *feed[T]) each(done <-chan struct{}, follow bool, take func(entry[T]) error, lost func(uint64) error) error {
	kept, s := f.read(follow)
	if s != nil {
		defer f.leave(s)
	}
	last := uint64(0)
	for _, e := range kept {
		if err := take(e); err != nil {
			return err
		}
		last = e.seq
	}
	if s == nil {
		return nil
	}
	for {
		select {
		case e, open := <-s.entries:
			if !open {
				return f.tellGap(last, f.end()+1, lost)
			}
			if err := f.tellGap(last, e.seq, lost); err != nil {
				return err
			}
			if err := take(e); err != nil {
				return err
			}
			last = e.seq
		case <-done:
			return nil
		}
	}
}

// tellGap tells of the entries between two, if there are any.
func (f *feed[T]) tellGap(last, next uint64, lost func(uint64) error) error {
	if next <= last+1 {
		return nil
	}
	return lost(next - last - 1)
}

// end is the seq of the last entry that followers could get.
func (f *feed[T]) end() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}
