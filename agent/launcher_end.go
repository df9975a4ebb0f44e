package agent

import "syscall"

// stop tells the launcher to fork no more and to end after its last keeper.
func (l *launcher) stop() { _ = l.link.send(plainOrder{Op: "stop"}) }

// discard ends one that is not wanted any more. Before it is ready nobody is below it, and it may hang in an import and read no order.
func (l *launcher) discard() {
	select {
	case <-l.ready:
		l.stop()
	default:
		l.kill()
	}
}

// kill ends it at once; its keepers fall to the agent and serve on.
func (l *launcher) kill() {
	l.killedAt.CompareAndSwap(0, int64(l.uptime()))
	_ = l.process.signal(syscall.SIGKILL)
}

func (l *launcher) isDead() bool {
	select {
	case <-l.dead:
		return true
	default:
		return false
	}
}

// close waits for the death and joins the goroutines.
func (l *launcher) close() {
	l.wg.Wait()
	l.process.close()
}

// leave gives up a launcher that outlives KILL at the end of the agent.
func (l *launcher) leave() {
	close(l.left)
	for _, c := range []interface{ close() }{l.link, l.out, l.process} {
		c.close() // who reads or waits for one of them wakes
	}
	l.wg.Wait()
}
