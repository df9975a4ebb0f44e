package agent

import (
	"strings"
	"unicode/utf8"
)

// userStack is what a user needs of a faulthandler dump: the thread that crashed, or ran, first, and their own frames. Our
// own threads and the frames below the call are left out, since they are the same in every dump and a status has room for
// 2 KiB. library is the directory of our Python half. A dump in an unknown form comes back as it is.
func userStack(dump, library string) string {
	head, threads, tail := splitDump(dump)
	if len(threads) == 0 {
		return dump
	}
	var current, others []string
	for _, t := range threads {
		text, mine := t.userFrames(library)
		switch {
		case mine:
		case strings.HasPrefix(t.title, "Current thread"), t.title == ownStack:
			current = append(current, text)
		default:
			others = append(others, text)
		}
	}
	var parts []string
	for _, part := range append(append([]string{head}, append(current, others...)...), tail) {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "\n\n")
}

// ownStack is the first line of a dump of the one thread that took the signal (Python/traceback.c).
const ownStack = "Stack (most recent call first):"

// wholeDump says that a dump that was asked for has its frames.
func wholeDump(text string) bool {
	_, frames, found := strings.Cut(text, ownStack)
	return found && strings.HasSuffix(text, "\n") && strings.Count(frames, "\n") > 1
}

// lastDump is the last words in what a crash file holds: a fatal error, if there is one; else, when the first dump was owed
// to somebody, what follows it. A dump begins where a thread comes that the one before has; what was asked for has one, without a name.
func lastDump(text string, owed bool) string {
	if fatal := strings.LastIndex(text, "Fatal Python error: "); fatal >= 0 {
		return text[fatal:]
	}
	if !owed {
		return text
	}
	seen, at := map[string]bool{}, 0
	for line := range strings.Lines(text) {
		if strings.HasSuffix(strings.TrimSpace(line), "(most recent call first):") {
			_, name, _ := strings.Cut(strings.TrimSpace(line), "hread ") // "Thread …" and "Current thread …" may be the same
			if seen[name] {
				return text[at:]
			}
			seen[name] = true
		}
		at += len(line)
	}
	return ""
}

// dumpedThread is one thread of a dump: its title line and its frames, the innermost first.
type dumpedThread struct {
	title  string
	frames []string
}

// splitDump takes a dump of CPython's faulthandler apart: "Fatal Python error: …", then per thread "Thread 0x… (most recent
// call first):" or "Current thread …" with indented frames, then perhaps "Extension modules: …" (Python/traceback.c).
func splitDump(dump string) (head string, threads []dumpedThread, tail string) {
	var before, after []string
	for line := range strings.Lines(dump) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasSuffix(line, "(most recent call first):"):
			threads = append(threads, dumpedThread{title: line})
		case len(threads) == 0:
			before = append(before, line)
		case strings.HasPrefix(line, "  "):
			last := &threads[len(threads)-1]
			last.frames = append(last.frames, line)
		default:
			after = append(after, line)
		}
	}
	return strings.TrimSpace(strings.Join(before, "\n")), threads, strings.TrimSpace(strings.Join(after, "\n"))
}

// userFrames is the thread without our frames; mine says that it is our control thread.
func (t dumpedThread) userFrames(library string) (text string, mine bool) {
	lines := []string{t.title}
	for _, frame := range t.frames {
		switch {
		case strings.Contains(frame, library+"/pitboss/_control.py"):
			mine = true
		case strings.Contains(frame, library+"/pitboss/"), strings.HasPrefix(frame, `  File "<string>"`):
		default:
			lines = append(lines, frame)
		}
	}
	if len(lines) == 1 {
		lines = append(lines, "  <no Python frame of yours>")
	}
	return strings.Join(lines, "\n"), mine
}

// cutBack keeps the first limit bytes: a dump begins with the innermost frame.
func cutBack(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	end := limit - len("…")
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}
