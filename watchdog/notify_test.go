package watchdog

import (
	"syscall"
	"testing"
)

func TestAgentLines(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "",
		"READY=1":                              "READY=1",
		"READY=1\nSTATUS=serving":              "READY=1\nSTATUS=serving",
		"WATCHDOG=1":                           "",
		"WATCHDOG=trigger\nREADY=1":            "READY=1",
		"STATUS=a\nEXTEND_TIMEOUT_USEC=9\n":    "STATUS=a",
		"\n\nREADY=1\n\n":                      "READY=1",
		"STOPPING=1":                           "",
		"STOPPING=1\nSTATUS=draining":          "STATUS=draining",
		"WATCHDOG_USEC=5":                      "WATCHDOG_USEC=5",
		"STATUS=WATCHDOG=1":                    "STATUS=WATCHDOG=1",
		" WATCHDOG=1":                          " WATCHDOG=1",
		"WATCHDOG=1\nWATCHDOG=1\nSTOPPING=1\n": "",
	} {
		if got := agentLines(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestMeaningOfEverySignal(t *testing.T) {
	for n := range 65 {
		for _, hangups := range []bool{false, true} {
			ev, ok := meaning(n, hangups)
			var want event
			switch s := syscall.Signal(n); s {
			case syscall.SIGINT, syscall.SIGTERM:
				want = event{kind: evStop, signal: n}
			case syscall.SIGHUP:
				want = event{kind: evForward, signal: n}
				if hangups {
					want = event{kind: evStop, signal: int(syscall.SIGTERM)}
				}
			case syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2:
				want = event{kind: evForward, signal: n}
			case syscall.SIGABRT:
				want = event{kind: evAbort}
			default:
				if ok {
					t.Errorf("signal %d means %v", n, ev.kind)
				}
				continue
			}
			if !ok || ev != want {
				t.Errorf("signal %d, hangups %v: %+v %v, want %+v", n, hangups, ev, ok, want)
			}
		}
		if got := isTerminalStop(n); got != (n == int(syscall.SIGTSTP) || n == int(syscall.SIGTTIN) || n == int(syscall.SIGTTOU)) {
			t.Errorf("signal %d stops: %v", n, got)
		}
	}
}
