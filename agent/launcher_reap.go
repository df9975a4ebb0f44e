package agent

import (
	"errors"
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
	patience := time.NewTimer(reapPatience)
	defer patience.Stop()
	select {
	case r := <-reply:
		l.children.forget(keeper)
		return r.Status, r.Left, nil
	case <-patience.C: // stopped or stuck: killed, its zombie falls to us
		l.tellKill(l.process.pid, "it does not collect a keeper that has ended")
		l.kill()
		<-l.dead
	case <-l.dead:
	}
	return l.reapOrphan(keeper, reply)
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
