package main

import (
	"os"
	"syscall"
	"time"
)

// sidecar runs the command beside the pools: whichever ends first takes the other with it.
func (r *privateRun) sidecar(command []string, ended <-chan struct{}) error {
	env := append(os.Environ(), "PITBOSS_SOCKET="+r.place.socket)
	c, err := r.agent.StartCommand(command, env)
	if err != nil {
		return fail(exitUsage, "name a program after --", "cannot start %q: %w", command[0], err)
	}
	code := make(chan int, 1)
	go func() { code <- c.Wait() }() // joined below in every case
	stopping := r.agent.Draining()
	select {
	case n := <-code:
		return exitWith(n)
	case <-stopping:
	case <-ended:
	}
	c.Signal(syscall.SIGTERM)
	timer := time.NewTimer(r.agent.KillGrace())
	defer timer.Stop()
	select {
	case n := <-code:
		return exitWith(n)
	case <-timer.C:
		c.Signal(syscall.SIGKILL)
		return exitWith(<-code)
	}
}

func exitWith(code int) error {
	if code == 0 {
		return nil
	}
	return &codeError{code: code}
}
