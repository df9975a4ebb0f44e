package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// LaunchOptions is what a private agent is made of. Only Adapter must be given.
type LaunchOptions struct {
	Adapter string    // module, path/to/file.py, or either with :Class
	Dir     string    // working directory, from which Adapter is looked up; default: the caller's
	Python  string    // interpreter; default: $PITBOSS_PYTHON, $VIRTUAL_ENV, .venv in Dir, python3
	Workers int       // 1 to 1000; default: 2, or 1 on a single core
	Preload []string  // modules that are imported once, before workers are forked
	Env     []string  // environment of agent and workers; default: the caller's
	Flags   []string  // further flags of `pitboss run`, such as "--kill-grace=1s"
	Stderr  io.Writer // the agent's log and the workers' output; default: the caller's standard error
	Binary  string    // of pitboss; default: $PITBOSS_BINARY, else pitboss on the path
}

// Agent is a private agent that lives as long as its caller at most.
type Agent struct {
	*Client        // connected to it; Close of the Agent closes it too
	Socket  string // for other programs; it is the caller's user's alone

	cmd    *exec.Cmd
	life   *os.File // its end is the agent's order to stop; the kernel closes it when this process ends
	forget func() bool
	close  sync.Once
	ended  chan struct{}
	err    error // of the process; read it after ended
}

// Launch starts a private agent, with no configuration, and returns when its pool is ready. The agent stops when Close is called,
// when ctx ends, or when this process ends, however it does: the agent holds the other end of a pipe, and its watchdog a pidfd of
// this process. Neither can be forgotten or missed. Errors name what the agent last said.
func Launch(ctx context.Context, o LaunchOptions) (*Agent, error) {
	if o.Adapter == "" {
		return nil, errors.New("cannot launch an agent: no adapter is named")
	}
	binary, err := o.binary()
	if err != nil {
		return nil, fmt.Errorf("cannot launch an agent: %w", err)
	}
	theirs, mine, err := os.Pipe() // both close on exec: no other child of ours keeps the agent alive
	if err != nil {
		return nil, fmt.Errorf("cannot launch an agent: %w", err)
	}
	tail := &tailWriter{out: o.Stderr}
	if tail.out == nil {
		tail.out = os.Stderr
	}
	a := &Agent{cmd: exec.Command(binary, o.arguments()...), life: mine, ended: make(chan struct{})}
	a.cmd.Dir, a.cmd.Env, a.cmd.Stdin, a.cmd.Stderr = o.Dir, o.Env, theirs, tail
	a.cmd.SysProcAttr = ownGroup()
	stdout, err := a.cmd.StdoutPipe()
	if err == nil {
		err = a.cmd.Start()
	}
	_ = theirs.Close()
	if err != nil {
		_ = mine.Close()
		return nil, fmt.Errorf("cannot launch an agent: %w", err)
	}
	socket := make(chan string, 1)
	go a.wait(stdout, socket) // joined by Close, through ended
	if err := a.connect(ctx, socket); err != nil {
		_ = a.Close()
		return nil, fmt.Errorf("cannot launch an agent: %w%s", err, tail.said())
	}
	a.forget = context.AfterFunc(ctx, a.letGo)
	return a, nil
}

func (o *LaunchOptions) binary() (string, error) {
	name := o.Binary
	if name == "" {
		name = os.Getenv("PITBOSS_BINARY")
	}
	if name == "" {
		name = "pitboss"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w; install pitboss, or name its binary in LaunchOptions.Binary or $PITBOSS_BINARY", err)
	}
	return filepath.Abs(path) // Dir must not change which one is meant
}

func (o *LaunchOptions) arguments() []string {
	args := []string{"run", "--die-with-parent"}
	if o.Python != "" {
		args = append(args, "--python="+o.Python)
	}
	if o.Workers != 0 {
		args = append(args, "--workers="+strconv.Itoa(o.Workers))
	}
	if len(o.Preload) > 0 {
		args = append(args, "--preload="+strings.Join(o.Preload, ","))
	}
	return append(append(args, o.Flags...), o.Adapter)
}

// wait reads what the agent says of itself, and then its end.
func (a *Agent) wait(stdout io.Reader, socket chan<- string) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if path, ok := strings.CutPrefix(lines.Text(), "socket: "); ok {
			socket <- path // once: the line comes once, and the channel holds one
			break
		}
	}
	_, _ = io.Copy(io.Discard, stdout)
	a.err = a.cmd.Wait()
	close(a.ended)
}

func (a *Agent) connect(ctx context.Context, socket <-chan string) error {
	select {
	case a.Socket = <-socket:
	case <-a.ended:
		return fmt.Errorf("it ended before it was ready: %w", endOf(a.err))
	case <-ctx.Done():
		return ctx.Err()
	}
	c, err := New(a.Socket)
	if err != nil {
		return err
	}
	a.Client = c
	return c.WaitReady(ctx, "")
}

func endOf(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// letGo is the order to stop; running calls drain.
func (a *Agent) letGo() { _ = a.life.Close() }

// Done is closed when the agent and everything that it started is gone.
func (a *Agent) Done() <-chan struct{} { return a.ended }

// Close stops the agent and returns when everything that it started is gone; its error says that the agent ended badly.
func (a *Agent) Close() error {
	a.close.Do(func() {
		a.letGo()
		if a.forget != nil {
			a.forget()
		}
		if a.Client != nil {
			_ = a.Client.Close()
		}
	})
	<-a.ended
	return a.err
}

// tailWriter passes on what the agent writes and remembers the end of it.
type tailWriter struct {
	out io.Writer
	mu  sync.Mutex // guards end
	end []byte
}

// maxTail is how much of the agent's last words an error of Launch repeats, in bytes.
const maxTail = 4 << 10

func (w *tailWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	w.end = append(w.end, p...)
	w.end = w.end[max(0, len(w.end)-maxTail):]
	w.mu.Unlock()
	return w.out.Write(p)
}

func (w *tailWriter) said() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.end) == 0 {
		return ""
	}
	return "\n" + strings.TrimSpace(string(w.end))
}
