package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// gpuQuery is the program that knows who holds memory of a GPU: NVIDIA's own, found on the path.
	gpuQuery = "nvidia-smi"
	// gpuPatience is how long it may take; without a persistent driver it takes seconds.
	gpuPatience = 15 * time.Second
	// gpuEnd is how long it may take to end once killed: a driver that hangs keeps it in the kernel.
	gpuEnd = time.Second
	// gpuAnswer bounds what is read of it.
	gpuAnswer = 1 << 20
)

// tryGPU says whether memory of a GPU is held by processes that are dead, or too little of it is free. A process that is listed,
// does not live and was not listed when the slot's last worker started is one of the last worker's tree: all of that is dead by now.
// Each listed process is added to apps. Only in the first pid namespace are the listed numbers sure to be those of /proc: in a container
// the free memory alone decides, and the configuration has to say how much.
func (l *resourceLook) tryGPU(gpu string, apps map[int]bool) (by string, err error) {
	text, err := l.pool.agent.askGPU(l.ctx, "--id="+gpu, "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits")
	if err != nil {
		return "", err
	}
	list, err := parseApps(text)
	if err != nil {
		return "", err
	}
	var dead []string
	for _, app := range list {
		apps[app.pid] = true
		if l.pidsMatch && !l.apps[app.pid] && !lives(app.pid) {
			dead = append(dead, fmt.Sprintf("pid %d, which is dead, has %s MiB", app.pid, app.memory))
		}
	}
	if len(dead) > 0 {
		return strings.Join(dead, ", "), errHeld
	}
	if l.gpuMemory == 0 {
		return "", nil
	}
	if text, err = l.pool.agent.askGPU(l.ctx, "--id="+gpu, "--query-gpu=memory.free", "--format=csv,noheader,nounits"); err != nil {
		return "", err
	}
	free, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return "", fmt.Errorf("%s says %q is free, which is no number of MiB", gpuQuery, strings.TrimSpace(text))
	}
	if Size(free<<20) < l.gpuMemory {
		return fmt.Sprintf("%d MiB are free", free), errHeld
	}
	return "", nil
}

// firstPIDNamespace says whether this process is in the namespace that the kernel has started with (PROC_PID_INIT_INO).
func firstPIDNamespace() bool {
	link, err := os.Readlink("/proc/self/ns/pid")
	return err == nil && link == "pid:[4026531836]"
}

// gpuApp is a process on a GPU; the memory is in MiB, or "[N/A]".
type gpuApp struct {
	pid    int
	memory string
}

func parseApps(text string) (apps []gpuApp, err error) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		pid, memory, _ := strings.Cut(line, ",")
		n, err := strconv.Atoi(strings.TrimSpace(pid))
		if err != nil {
			return nil, fmt.Errorf("%s lists a process that is no number: %q", gpuQuery, line)
		}
		apps = append(apps, gpuApp{n, strings.TrimSpace(memory)})
	}
	return apps, nil
}

// lives says whether a process is there and no zombie.
func lives(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// askGPU runs the program as a child that the sweep of strangers knows, and returns what it printed. The end of ctx ends it.
func (a *Agent) askGPU(ctx context.Context, args ...string) (string, error) {
	path, err := exec.LookPath(gpuQuery)
	if err != nil {
		return "", err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer null.Close()
	ours, theirs, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer ours.Close()
	env := slices.DeleteFunc(os.Environ(), func(entry string) bool { name, _, _ := strings.Cut(entry, "="); return private(name) })
	process, err := a.children.start(path, append([]string{gpuQuery}, args...), env, "/", []*os.File{null, theirs, null}, nil)
	_ = theirs.Close()
	if err != nil {
		return "", err
	}
	defer process.close()
	_ = ours.SetReadDeadline(time.Now().Add(gpuPatience))
	defer context.AfterFunc(ctx, func() { _ = ours.SetReadDeadline(time.Now()) })()
	text, err := io.ReadAll(io.LimitReader(ours, gpuAnswer))
	if err != nil {
		_ = process.signal(syscall.SIGKILL)
	}
	if !process.endsWithin(gpuEnd) {
		_ = process.signal(syscall.SIGKILL)
		a.children.forget(process) // the sweep collects it when the kernel lets it go
		return "", fmt.Errorf("%s does not end", gpuQuery)
	}
	status, reaped := a.children.reap(process)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "", fmt.Errorf("%s did not answer within %s", gpuQuery, gpuPatience)
	case err != nil || reaped != nil:
		return "", fmt.Errorf("cannot read the answer of %s: %w", gpuQuery, errors.Join(err, reaped))
	case status != 0:
		return "", fmt.Errorf("%s %s: %s", gpuQuery, statusText(status), cutBack(strings.TrimSpace(string(text)), 200))
	}
	return string(text), nil
}

// endsWithin waits for the end of a process.
func (p *pidfd) endsWithin(limit time.Duration) bool {
	_ = p.file.SetReadDeadline(time.Now().Add(limit))
	return p.wait() == nil
}
