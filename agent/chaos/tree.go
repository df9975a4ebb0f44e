// Package chaos kills parts of a real agent's tree and counts, by the operating system, what survives.
//
// Nothing here asks pitboss what it believes: a process belongs to a run if its environment carries the run's token,
// which every descendant inherits, whatever session, group or parent it has.
package chaos

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// TokenEnv is the variable by which a run's processes are told from all others.
const TokenEnv = "PITBOSS_CHAOS_TOKEN"

// Alive lists the processes of a run that are not zombies.
func Alive(token string) []int {
	mark := []byte(TokenEnv + "=" + token + "\x00")
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var pids []int
	for _, dir := range dirs {
		env, err := os.ReadFile(filepath.Join(dir, "environ")) // empty for a zombie
		if err != nil || !bytes.Contains(append(env, 0), mark) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// WaitEmpty waits until no process of the run is left, at most limit, and returns who is left and how long it took. One
// empty look proves nothing: a process in the middle of its exec shows no environment, and a walk of /proc is no snapshot.
// So a second look, one tick later, has to be empty too.
func WaitEmpty(token string, limit time.Duration) ([]int, time.Duration) {
	start := time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	var empty time.Duration
	for {
		left := Alive(token)
		took := time.Since(start)
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
