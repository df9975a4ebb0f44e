package chaos

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// TokenEnv is the variable by which a run's processes are told from all others.
const TokenEnv = "PITBOSS_CHAOS_TOKEN"

// Tree names the processes of one round. A process belongs to it if one of four witnesses says so, each of which a process may
// escape, but not all of them at once: its environment carries the token; its arguments do; it holds a file open whose path
// does; or it is in the round's cgroup (v2), which no process leaves by itself. The last one needs a cgroup that the caller may
// write, and is used where there is one.
type Tree struct {
	Token  string // random, at least 16 characters
	Cgroup string // directory of the run's cgroup, "" without one
}

// Sighting is one live process and who saw it.
type Sighting struct {
	PID                     int
	Env, Argv, File, Cgroup bool
}

// Alive asks every witness and lists the processes that at least one of them saw. Zombies do not count.
func (t Tree) Alive() []Sighting {
	inside := t.members()
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var all []Sighting
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		if s, ok := t.sight(pid, inside); ok {
			all = append(all, s)
		}
	}
	return all
}

// sight asks every witness about one process; inside are the members of the cgroup.
func (t Tree) sight(pid int, inside map[int]bool) (Sighting, bool) {
	dir := "/proc/" + itoa(pid)
	dir += firstThread(dir)
	s := Sighting{PID: pid, Cgroup: inside[pid], Env: t.marked(dir + "/environ"), Argv: t.marked(dir + "/cmdline"), File: t.holds(dir + "/fd")}
	if s.File { // it may have been unborn a moment ago
		s.File = !unborn(pid) && t.holds(dir+"/fd")
	}
	return s, (s.Cgroup || s.Env || s.Argv || s.File) && !zombie(dir)
}

// unborn says that this process is a child of ours that has not executed its program yet. It holds all our files, so every round's, and
// must not be stopped: until its exec the thread that made it waits for it (vfork(2)), and with that one the Go runtime for its next
// collection, for ever.
func unborn(pid int) bool {
	if parentOf(pid) != os.Getpid() {
		return false
	}
	own, err := os.ReadFile("/proc/self/cmdline")
	line, gone := os.ReadFile("/proc/" + itoa(pid) + "/cmdline")
	return err == nil && gone == nil && bytes.Equal(own, line)
}

func (t Tree) marked(file string) bool {
	text, err := os.ReadFile(file) // empty for a zombie
	return err == nil && bytes.Contains(text, []byte(t.Token))
}

func (t Tree) holds(dir string) bool {
	names, _ := filepath.Glob(dir + "/*")
	for _, name := range names {
		if target, err := os.Readlink(name); err == nil && strings.Contains(target, t.Token) {
			return true
		}
	}
	return false
}

// members are the processes of the cgroup and of those below it.
func (t Tree) members() map[int]bool {
	if t.Cgroup == "" {
		return nil
	}
	all := map[int]bool{}
	_ = filepath.WalkDir(t.Cgroup, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil
		}
		text, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		for _, field := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				all[pid] = true
			}
		}
		return nil
	})
	return all
}

// populated is the kernel's own word for the cgroup, cheap enough to ask every millisecond.
func (t Tree) populated() bool {
	text, _ := os.ReadFile(filepath.Join(t.Cgroup, "cgroup.events"))
	return bytes.Contains(text, []byte("populated 1"))
}

// firstThread is "" for the usual process. One whose first thread has ended shows state Z, no environment and no files, while others
// run: then it is the place of one of them, below the process's directory.
func firstThread(dir string) string {
	if !zombie(dir) {
		return ""
	}
	tasks, _ := filepath.Glob(dir + "/task/*")
	for _, task := range tasks {
		if !zombie(task) {
			return strings.TrimPrefix(task, dir)
		}
	}
	return ""
}

func zombie(dir string) bool {
	stat, err := os.ReadFile(dir + "/stat")
	i := bytes.LastIndexByte(stat, ')')
	return err != nil || i < 0 || i+2 >= len(stat) || stat[i+2] == 'Z' || stat[i+2] == 'X'
}

// WaitEmpty waits until no process of the run is left, at most limit, and returns who is left and how long it took. One
// empty look proves nothing: a process in the middle of its exec shows no environment, and a walk of /proc is no snapshot.
// So a second look, one tick later, has to be empty too.
func (t Tree) WaitEmpty(limit time.Duration) ([]Sighting, time.Duration) {
	start := time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	var empty time.Duration
	for {
		took := time.Since(start)
		if took < limit && t.Cgroup != "" && t.populated() {
			empty = 0
			<-tick.C
			continue
		}
		left := t.Alive()
		switch {
		case len(left) == 0 && empty > 0:
			return nil, empty
		case took > limit:
			return left, took
		case len(left) == 0:
			empty = took
		default:
			empty = 0
		}
		<-tick.C
	}
}
