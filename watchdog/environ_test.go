package watchdog

import (
	"slices"
	"testing"
)

func TestReadManager(t *testing.T) {
	for _, c := range []struct {
		env  []string
		want manager
	}{
		{nil, manager{}},
		{[]string{"NOTIFY_SOCKET=/run/n", "WATCHDOG_USEC=3000000", "WATCHDOG_PID=42"}, manager{notify: "/run/n", watchdog: 3000000}},
		{[]string{"NOTIFY_SOCKET=@a", "WATCHDOG_USEC=3000000"}, manager{notify: "@a", watchdog: 3000000}},
		{[]string{"WATCHDOG_USEC=3000000", "WATCHDOG_PID=41"}, manager{}},
		{[]string{"WATCHDOG_USEC=soon"}, manager{}},
		{[]string{"WATCHDOG_USEC=-1"}, manager{}},
		{[]string{"LISTEN_PID=42", "LISTEN_FDS=2", "LISTEN_FDNAMES=api:other"}, manager{listen: 2, names: "api:other"}},
		{[]string{"LISTEN_PID=42", "LISTEN_FDS=1"}, manager{listen: 1}},
		{[]string{"LISTEN_PID=41", "LISTEN_FDS=2"}, manager{}},
		{[]string{"LISTEN_FDS=2"}, manager{}},
		{[]string{"LISTEN_PID=42", "LISTEN_FDS=0"}, manager{}},
		{[]string{"LISTEN_PID=42", "LISTEN_FDS=-1"}, manager{}},
		{[]string{"LISTEN_PID=42", "LISTEN_FDS=1025"}, manager{}},
		{[]string{"LISTEN_PID=42", "LISTEN_FDS=x"}, manager{}},
		{[]string{"XNOTIFY_SOCKET=/x", "NOTIFY_SOCKET2=/x"}, manager{}},
	} {
		if got := readManager(c.env, 42); got != c.want {
			t.Errorf("%q: %+v, want %+v", c.env, got, c.want)
		}
	}
}

func TestAgentEnv(t *testing.T) {
	env := []string{"PATH=/bin", "NOTIFY_SOCKET=/n", "LISTEN_PID=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=a", "WATCHDOG_USEC=1", "WATCHDOG_PID=1",
		"PITBOSS_GUARD_FD=9", "PITBOSS_LOCK_FD=9", "PITBOSS_LISTEN_FDS=9", "PITBOSS_LISTEN_FDNAMES=z", "PITBOSS_INNER_FD=9",
		"PITBOSS_CGROUP=delegated", "PITBOSS_CGROUP_DIR=/sys/fs/cgroup/x", "PITBOSS_CGROUP_REFUSED=y",
		"PITBOSS_PYTHON=/py", "LISTENER=kept", "WATCHDOGS=kept", "NOTIFY_SOCKETS=kept", "EMPTY="}
	want := []string{"PATH=/bin", "PITBOSS_PYTHON=/py", "LISTENER=kept", "WATCHDOGS=kept", "NOTIFY_SOCKETS=kept", "EMPTY=", "PITBOSS_GUARD_FD=3"}
	if got := agentEnv(env, "PITBOSS_GUARD_FD=3"); !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}

// The runtime's settings of the watchdog never reach the agent; what the user had set does, as it was.
func TestTunedEnvironmentIsUndone(t *testing.T) {
	for _, env := range [][]string{
		{"PATH=/bin"}, {"GOMAXPROCS=3", "GOGC=off", "X=1"}, {"GOGC=", "GOMAXPROCS=8"}, {"GOGCX=1", "PITBOSS_KEEP=1"}, {},
	} {
		tuned := tunedEnv(env)
		for _, name := range []string{"PITBOSS_TUNED=1", tunedProcs, tunedGC} {
			n := 0
			for _, kv := range tuned {
				if kv == name {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%q: %d times %s in %q", env, n, name, tuned)
			}
		}
		for _, kv := range tuned[:len(tuned)-3] {
			if isTuning(kv) {
				t.Errorf("%q: two values of one setting in %q", env, tuned)
			}
		}
		if got := untunedEnv(tuned); !slices.Equal(got, env) {
			t.Errorf("%q came back as %q", env, got)
		}
		if got := untunedEnv(env); !slices.Equal(got, env) {
			t.Errorf("an environment that was never tuned: %q became %q", env, got)
		}
	}
}
