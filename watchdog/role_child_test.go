package watchdog

import (
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// rootEnv names a copy of the test binary that belongs to root and is setuid.
const rootEnv = "PITBOSS_TEST_ROOT"

// startChild starts a child that keeps our standard output, so that its lines reach the test.
func startChild(kind string) int {
	cmd := exec.Command(os.Args[0], "role=child", kind)
	if kind == "root" {
		cmd.Path = os.Getenv(rootEnv) // the same binary, setuid root
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	name, _, _ := strings.Cut(kind, ":")
	if name == "setsid" || name == "daemon" || name == "bomb" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	}
	if name == "keeper" {
		// Like a real keeper it sees our death as the end of a pipe that nobody else holds.
		r, w, err := os.Pipe()
		if err != nil {
			panic(err)
		}
		cmd.Stdin = r
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		_ = r.Close()
		neverClosed = append(neverClosed, w)
		return cmd.Process.Pid
	}
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	go func() { _ = cmd.Wait() }() // a played agent lives until it is killed; nobody is left to join
	return cmd.Process.Pid
}

// neverClosed keeps the keepers' pipes open until this process dies; only a role process writes it.
var neverClosed []*os.File

func playChild(kind string) int {
	name, arg, _ := strings.Cut(kind, ":")
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP)
	switch name {
	case "keeper": // "keeper:DURATION:FILE": takes so long after its agent's death, then proves that it ended by itself
		span, file, _ := strings.Cut(arg, ":")
		d, _ := time.ParseDuration(span)
		signal.Ignore(syscall.SIGTERM)
		say("child %s up", name)
		_, _ = io.Copy(io.Discard, os.Stdin)
		time.Sleep(d) // the length of its ladder is what this helper is about
		_ = os.WriteFile(file, []byte("finished"), 0o600)
		return 0
	case "daemon": // the classic double fork: our parent never sees the grandchild
		cmd := exec.Command(os.Args[0], "role=child", "setsid:"+arg)
		cmd.Stdout = os.Stdout
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		return 0
	case "bomb": // runs away: every generation starts the next one in a new session and exits
		cmd := exec.Command(os.Args[0], "role=child", "bomb:again")
		cmd.Stdout = os.Stdout
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			return 1
		}
		if arg != "again" {
			say("child bomb up")
		}
		return 0
	case "plain":
	case "root": // leaves its user
		if err := syscall.Setuid(0); err != nil {
			panic(err)
		}
	default: // "setsid": ignores every polite signal
		signal.Ignore(syscall.SIGTERM)
	}
	say("child %s up %d", name, os.Getpid())
	for {
		time.Sleep(time.Hour)
	}
}
