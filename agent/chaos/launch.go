package chaos

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/pitboss-run/pitboss/agent/client"
)

// Options are what a round's agent is made of.
type Options struct {
	Config  string            // yaml
	Files   map[string]string // written to the round's directory first: adapters
	Env     []string          // beside the caller's own
	Before  []string          // words put before `pitboss agent ...`, such as unshare with its flags
	InPlace bool              // Before's words become the command by exec, so its parent is still this process
	Change  func(*exec.Cmd)   // has the last word about the command
}

// Agent is one private agent of a round, with its watchdog.
type Agent struct {
	Watchdog, Process *Process // Process is the agent's own
	Socket            string

	round  *Round
	cmd    *exec.Cmd
	log    string
	waited chan struct{} // closed when cmd has been reaped
	client *client.Client
}

// Start starts an agent and returns as soon as its process exists. It ends with the round, and with this process: the watchdog
// holds a pidfd of it, unless words were put before the command that stay its parent.
func (r *Round) Start(o Options) *Agent {
	for name, text := range o.Files {
		r.Write(name, text)
	}
	name := "agent" + strings.Repeat("-again", len(r.agents))
	r.Write(name+".yaml", o.Config)
	a := &Agent{round: r, Socket: r.File(name + ".sock"), log: r.File(name + ".log"), waited: make(chan struct{})}
	line := append([]string{}, o.Before...)
	line = append(line, r.host.Binary, "agent", "--config", r.File(name+".yaml"), "--socket", a.Socket, "--runtime-dir", r.File(name))
	if len(o.Before) == 0 || o.InPlace {
		line = append(line, "--die-with-parent")
	}
	a.cmd = exec.Command(line[0], line[1:]...)
	a.cmd.Dir = r.dir
	a.cmd.Env = append(append(os.Environ(), TokenEnv+"="+r.tree.Token, "PITBOSS_PYTHON="+r.host.Python), o.Env...)
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // as a service manager does
	log, err := os.Create(a.log)
	r.Must(err)
	defer func() { _ = log.Close() }()
	a.cmd.Stdout, a.cmd.Stderr = log, log
	if r.tree.Cgroup != "" {
		dir, err := os.Open(r.tree.Cgroup)
		r.Must(err)
		defer func() { _ = dir.Close() }()
		a.cmd.SysProcAttr.UseCgroupFD, a.cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}
	if o.Change != nil {
		o.Change(a.cmd)
	}
	r.Must(a.cmd.Start())
	r.agents = append(r.agents, a)
	outermost, err := Pin(a.cmd.Process.Pid)
	go func() { _ = a.cmd.Wait(); close(a.waited) }() // joined by close
	r.Must(err)
	a.Watchdog = outermost
	r.Until("agent below its watchdog", func() bool {
		if a.over() {
			r.Fatalf("the agent ended before it was there%s", r.logs())
		}
		return a.find(outermost.PID)
	})
	return a
}

// find looks for the agent: the first process, below the one that was started, whose parent is a watchdog.
func (a *Agent) find(pid int) bool {
	for _, child := range ChildrenOf(pid) {
		if programOf(pid) == "pitboss-watchdog" && programOf(child) == "pitboss" {
			agent, err := Pin(child)
			if err != nil || programOf(child) != "pitboss" || parentOf(child) != pid {
				continue
			}
			if pid != a.Watchdog.PID { // there were words before it
				watchdog, err := Pin(pid)
				if err != nil || programOf(pid) != "pitboss-watchdog" {
					agent.close()
					continue
				}
				a.Watchdog.close()
				a.Watchdog = watchdog
			}
			a.Process = agent
			return true
		}
		if a.find(child) {
			return true
		}
	}
	return false
}

// programOf is the base name of the file that a process runs, "" when it cannot be read.
func programOf(pid int) string {
	words, err := os.ReadFile("/proc/" + itoa(pid) + "/cmdline")
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(words), "\x00")
	return filepath.Base(first)
}

// Client is connected to the agent.
func (a *Agent) Client() *client.Client {
	if a.client != nil {
		return a.client
	}
	a.round.Until("socket that listens", func() bool {
		c, err := net.Dial("unix", a.Socket)
		if err == nil {
			_ = c.Close()
		}
		return err == nil || a.over()
	})
	c, err := client.Dial(a.round.ctx, a.Socket)
	a.round.Must(err)
	a.client = c
	a.round.Cleanup(func() { _ = c.Close() })
	return c
}

// Status is what `pitboss status --json` prints, decoded into s.
func (a *Agent) Status(s any) {
	ctx, cancel := context.WithTimeout(a.round.ctx, patience)
	defer cancel()
	text, err := a.Client().Status(ctx)
	if err != nil {
		a.round.Fatalf("no status: %v%s", err, a.round.logs())
	}
	a.round.Must(json.Unmarshal(text, s))
}

// Ready waits until every pool is ready, and notes the tier.
func (a *Agent) Ready() {
	a.round.Until("ready pools", func() bool {
		var s struct{ Pools []struct{ State string } }
		a.Status(&s)
		for _, p := range s.Pools {
			if p.State != "ready" {
				return false
			}
		}
		return len(s.Pools) > 0
	})
	a.noteTier()
}

// noteTier notes the kill tier in force.
func (a *Agent) noteTier() {
	var s struct{ Agent struct{ Tier string } }
	a.Status(&s)
	a.round.Tier(s.Agent.Tier)
}

// Log is what the agent and its watchdog have written to standard error so far.
func (a *Agent) Log() string {
	text, _ := os.ReadFile(a.log)
	return string(text)
}

// ExitCode waits for the end of the command and returns its exit code, −1 for a signal.
func (a *Agent) ExitCode() int {
	a.round.Until("end of the command", a.over)
	return a.cmd.ProcessState.ExitCode()
}

func (a *Agent) over() bool {
	select {
	case <-a.waited:
		return true
	default:
		return false
	}
}

func (a *Agent) close() {
	<-a.waited
	for _, p := range []*Process{a.Watchdog, a.Process} {
		if p != nil {
			p.close()
		}
	}
}
