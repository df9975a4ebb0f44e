package watchdog

import (
	"bufio"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines collects what a process writes and lets a test wait for a line.
type lines struct {
	mu    sync.Mutex
	all   []string
	more  chan struct{} // replaced at every new line
	ended bool
}

func collect(r *os.File) *lines {
	l := &lines{more: make(chan struct{})}
	go func() {
		s := bufio.NewScanner(r)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			l.add(s.Text(), false)
		}
		l.add("", true)
		_ = r.Close()
	}()
	return l
}

func (l *lines) add(text string, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ended {
		l.ended = true
	} else {
		l.all = append(l.all, text)
	}
	close(l.more)
	l.more = make(chan struct{})
}

// wait returns the n-th line (from 1) that contains text.
func (l *lines) wait(t *testing.T, text string, n int) string {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		l.mu.Lock()
		found := 0
		for _, s := range l.all {
			if strings.Contains(s, text) {
				if found++; found == n {
					l.mu.Unlock()
					return s
				}
			}
		}
		more, ended := l.more, l.ended
		l.mu.Unlock()
		if ended {
			t.Fatalf("no line %d with %q before the end of\n%s", n, text, l)
		}
		select {
		case <-more:
		case <-deadline.C:
			t.Fatalf("no line %d with %q within %v in\n%s", n, text, patience, l)
		}
	}
}

// end waits for the last line: nobody holds the other end any more.
func (l *lines) end(t *testing.T) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		l.mu.Lock()
		more, ended := l.more, l.ended
		l.mu.Unlock()
		if ended {
			return
		}
		select {
		case <-more:
		case <-deadline.C:
			t.Fatalf("no end within %v of\n%s", patience, l)
		}
	}
}

func (l *lines) has(text string) bool { return strings.Contains(l.String(), text) }

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}
