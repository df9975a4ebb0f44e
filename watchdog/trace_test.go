package watchdog

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// playTracer attaches to a process. "exit:PID" makes it stop in its death until the tracer lets go, which this one never does;
// "stop:PID" holds it now; "zombie:PID" lets it die and keeps its status, as every tracer may that does not wait for it.
func playTracer(arg string) int {
	runtime.LockOSThread() // a tracer is a thread
	mode, number, _ := strings.Cut(arg, ":")
	pid, _ := strconv.Atoi(number)
	tids := []int{pid}
	if mode == "stop" { // a debugger holds every thread
		tids = nil
		tasks, _ := os.ReadDir("/proc/" + number + "/task")
		for _, task := range tasks {
			tid, _ := strconv.Atoi(task.Name())
			tids = append(tids, tid)
		}
	}
	for _, tid := range tids {
		if err := seize(tid, mode); err != nil {
			fmt.Println("cannot trace:", err)
			return 1
		}
	}
	say("tracing %d", pid)
	for {
		time.Sleep(time.Hour)
	}
}

func seize(tid int, mode string) error {
	options := 0
	if mode == "exit" {
		options = unix.PTRACE_O_TRACEEXIT
	}
	if _, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(tid), 0, uintptr(options), 0, 0); errno != 0 {
		return errno
	}
	if mode != "stop" {
		return nil
	}
	if _, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_INTERRUPT, uintptr(tid), 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// playParent starts the command line in arg (one argument per line) from a thread that ends at once, and stays.
func playParent(arg string) int {
	args := strings.Split(strings.ReplaceAll(arg, "PARENT", strconv.Itoa(os.Getpid())), "\n")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, the process does not
		started <- cmd.Start()
	}()
	if err := <-started; err != nil {
		panic(err)
	}
	say("started %d", cmd.Process.Pid)
	for {
		time.Sleep(time.Hour)
	}
}

// playSpinner uses all of a processor at the lowest priority.
func playSpinner() int {
	say("spinning")
	for n := 0; n >= 0; n = (n + 1) & 0xffff {
	}
	return 0
}
