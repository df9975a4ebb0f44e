package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// bystanders are processes that are none of any agent's, however much they look like it: nothing that a scenario does may hit
// them. They live beside all rounds, each in a session of its own.
type bystanders struct {
	mu  sync.Mutex // guards all
	all []*bystander
}

type bystander struct {
	what  string
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has been reaped
	life  *os.File      // at its end the bystander ends, so that none outlives us
}

// waitForEnd is a Python program that ends with its standard input.
const waitForEnd = "import sys; sys.stdin.read()"

// newBystanders starts one that looks like a worker of an earlier run, one that looks like a keeper, and one that looks like nobody.
func newBystanders(h *Host) (*bystanders, error) {
	b := &bystanders{}
	for _, kind := range []struct {
		what string
		argv []string
		env  []string
	}{
		{"another run's worker", []string{"pitboss-worker", "-c", waitForEnd}, append(os.Environ(), "PITBOSS_RUN_ID=0123456789abcdef")},
		{"another agent's keeper", []string{"pitboss: keeper", "-c", waitForEnd}, os.Environ()},
		{"a Python program", []string{"python3", "-c", waitForEnd}, nil},
	} {
		theirs, life, err := os.Pipe()
		if err != nil {
			return b, errors.Join(err, b.close())
		}
		cmd := &exec.Cmd{Path: h.Python, Args: kind.argv, Env: kind.env, Stdin: theirs, SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
		if cmd.Env == nil {
			cmd.Env = []string{}
		}
		err = cmd.Start()
		_ = theirs.Close()
		if err != nil {
			_ = life.Close()
			return b, errors.Join(fmt.Errorf("cannot start a bystander: %w", err), b.close())
		}
		one := &bystander{what: kind.what, cmd: cmd, ended: make(chan struct{}), life: life}
		go func() { _ = cmd.Wait(); close(one.ended) }() // joined by close
		b.all = append(b.all, one)
	}
	return b, nil
}

// hit takes those off that have ended since it was asked last, and tells how.
func (b *bystanders) hit() (said []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var left []*bystander
	for _, one := range b.all {
		select {
		case <-one.ended:
			said = append(said, fmt.Sprintf("%s (pid %d), none of ours: %s", one.what, one.cmd.Process.Pid, one.cmd.ProcessState))
			_ = one.life.Close()
		default:
			left = append(left, one)
		}
	}
	b.all = left
	return said
}

func (b *bystanders) close() error {
	var all error
	for _, one := range b.all {
		all = errors.Join(all, one.life.Close())
		<-one.ended
	}
	return all
}
