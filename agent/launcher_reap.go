package agent

import (
	"errors"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// reapPatience is how long a launcher may take to collect a keeper that has ended.
const reapPatience = 10 * time.Second

// reapKeeper collects the exit status of a keeper that has ended: through the launcher, its parent, or, when that is
// dead, ourselves, to whom the keeper has fallen. Status 0 proves that the worker's tree is empty; left is what its launcher
// could not end of it.
func (l *launcher) reapKeeper(keeper *pidfd) (status int, left []survivor, err error) {
	reply := make(chan launcherReport, 1)
	l.mu.Lock()
	l.reaps[keeper.pid] = reply
	l.mu.Unlock()
	if err := l.link.send(reapOrder{Op: "reap", Keeper: keeper.pid}); err != nil && !linkEnded(err) && !errors.Is(err, syscall.EPIPE) {
		l.log.Error("cannot order a launcher to reap", "pool", l.pool, "cause", err)
	}
	for {
		began := lookAtLauncher(l.process.pid)
		patience := time.NewTimer(reapPatience)
		select {
		case r := <-reply:
			patience.Stop()
			l.children.forget(keeper)
			return r.Status, r.Left, nil
		case <-patience.C:
			if began.starved() {
				continue
			}
			// stopped or stuck: killed, its zombie falls to us
			l.tellKill(l.process.pid, "it does not collect a keeper that has ended")
			l.kill()
		case <-l.dead:
			patience.Stop()
		case <-l.left:
			patience.Stop()
		}
		select {
		case <-l.dead:
			return l.reapOrphan(keeper, reply)
		case <-l.left: // it outlives KILL with the zombie that is its child: no proof
			return -int(syscall.SIGKILL), nil, nil
		}
	}
}

// launcherLook is what the kernel said about a launcher's first thread when a wait for it began.
type launcherLook struct {
	pid        int
	at         time.Time
	cpu, delay time.Duration
}

func lookAtLauncher(pid int) launcherLook {
	look := launcherLook{pid: pid, at: time.Now()}
	for _, thread := range readThreads(filepath.Join("/proc", strconv.Itoa(pid))) {
		if thread.TID == pid {
			look.cpu, look.delay = thread.CPU, thread.RunDelay
		}
	}
	return look
}

// starved says that the launcher has mostly waited for a processor since: late, not stuck. A wait that lasts is in no account yet
// (schedstat adds it when the thread runs), so a thread that is runnable and has not run much counts too. A stopped one is neither.
func (then launcherLook) starved() bool {
	now := lookAtLauncher(then.pid)
	half := now.at.Sub(then.at) / 2
	state, _, ok := readStat(filepath.Join("/proc", strconv.Itoa(then.pid), "stat"))
	return ok && state != 'T' && (now.delay-then.delay >= half || state == 'R' && now.cpu-then.cpu < half)
}

// reapOrphan collects a keeper whose launcher is dead.
func (l *launcher) reapOrphan(keeper *pidfd, reply <-chan launcherReport) (status int, left []survivor, err error) {
	select {
	case r := <-reply: // it answered before it died
		l.children.forget(keeper)
		return r.Status, r.Left, nil
	default:
	}
	status, err = l.children.reap(keeper)
	if err == syscall.ECHILD {
		return -int(syscall.SIGKILL), nil, nil // reaped by the launcher in its last moment: no proof
	}
	l.children.sweep()
	return status, nil, err
}
