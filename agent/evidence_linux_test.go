package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestThrottledTimeIsReadFromEitherCgroupVersion(t *testing.T) {
	for _, c := range []struct {
		name, cgroups string
		files         map[string]string
		want          time.Duration
	}{
		{"no cgroups", "", nil, 0},
		{"no controller", "0::/a\n3:cpuset:/a\n", map[string]string{"cpuset/a/cpu.stat": "throttled_time 9\n"}, 0},
		{"v2", "0::/a/b\n", map[string]string{"a/b/cpu.stat": "usage_usec 5\nnr_throttled 2\nthrottled_usec 1500\n"}, 1500 * time.Microsecond},
		{"v2, quota above", "0::/a/b\n", map[string]string{"a/b/cpu.stat": "throttled_usec 0\n", "a/cpu.stat": "throttled_usec 7\n"}, 7 * time.Microsecond},
		{"v2 in a container", "0::/\n", map[string]string{"cpu.stat": "throttled_usec 8\n"}, 8 * time.Microsecond},
		{"v1", "4:cpu:/a\n0::/z\n", map[string]string{"cpu/a/cpu.stat": "nr_periods 1\nnr_throttled 1\nthrottled_time 1500\n"}, 1500},
		{"v1, two controllers", "4:cpu,cpuacct:/a\n", map[string]string{"cpu/a/cpu.stat": "throttled_time 3\n"}, 3},
		{"v1, quota above", "4:cpu:/a/b\n", map[string]string{"cpu/a/cpu.stat": "throttled_time 5\n", "cpu/a/b/cpu.stat": "throttled_time 1\n"}, 5},
		{"nonsense", "4:cpu\nx\n0::/a\n", map[string]string{"a/cpu.stat": "throttled_usec many\n"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, _ := throttled(c.cgroups, hierarchy(t, c.files)); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// hierarchy is a directory with the files of cgroups.
func hierarchy(t *testing.T, files map[string]string) (mount string) {
	t.Helper()
	mount = t.TempDir()
	for name, text := range files {
		file := filepath.Join(mount, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, file, text, 0o600)
	}
	return mount
}

// quotaGroup makes a cgroup whose processes may use a hundredth of a processor, and returns how to move one in.
func quotaGroup(t *testing.T) (join func(pid int)) {
	t.Helper()
	dir := filepath.Join(cgroupMount, "cpu", fmt.Sprintf("pitboss-test-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("NOT TESTED for real: this host gives us no cgroup v1 cpu controller (%v); only the table above was", err)
	}
	t.Cleanup(func() {
		await(t, 10*time.Second, "rid of the cgroup", func() bool { return os.Remove(dir) == nil })
	})
	set := func(name, value string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set("cpu.cfs_period_us", "100000")
	set("cpu.cfs_quota_us", "1000") // less than even a loaded machine gives a process that burns
	return func(pid int) { set("cgroup.procs", fmt.Sprint(pid)) }
}

func TestAWorkerUnderAQuotaIsSeenThrottled(t *testing.T) {
	join := quotaGroup(t)
	a := startTestAgent(t, testTools, nil)
	waitReady(t, a)
	req := request("time_sum", `{"n":100000000000}`)
	req.Timeout = 20 * time.Second
	burning := begin(t, a, req)
	pid := workerOf(a, runs(t, a)).PID
	share := func() float64 {
		first := sampleProcess(pid, a.uptime())
		last := first
		await(t, 10*time.Second, "sampled", func() bool {
			last = sampleProcess(pid, a.uptime())
			return last.At-first.At >= time.Second
		})
		return float64(last.ThrottledFor-first.ThrottledFor) / float64(last.At-first.At)
	}
	if got := share(); got > 0.05 {
		t.Errorf("throttled for %.0f %% without a quota", 100*got)
	}
	join(pid)
	if got := share(); got < 0.5 {
		t.Errorf("throttled for %.0f %% at a hundredth of a processor", 100*got)
	}
	a.Hurry()
	<-burning
}

func TestFrozenIsReadFromEitherCgroupVersion(t *testing.T) {
	for _, c := range []struct {
		name, cgroups string
		files         map[string]string
		want          bool
	}{
		{"no cgroups", "", nil, false},
		{"v2", "0::/a\n", map[string]string{"a/cgroup.events": "populated 1\nfrozen 1\n"}, true},
		{"v2, not frozen", "0::/a\n", map[string]string{"a/cgroup.events": "populated 1\nfrozen 0\n"}, false},
		{"v2 in a container", "0::/\n", map[string]string{"cgroup.events": "frozen 1\n"}, true},
		{"v2 in a hybrid hierarchy", "3:cpu:/\n0::/a\n", map[string]string{"unified/a/cgroup.events": "frozen 1\n"}, true},
		{"v1", "6:freezer:/a\n0::/\n", map[string]string{"freezer/a/freezer.state": "FROZEN\n"}, true},
		{"v1, on the way", "6:freezer:/a\n", map[string]string{"freezer/a/freezer.state": "FREEZING\n"}, true},
		{"v1, thawed", "6:freezer:/a\n", map[string]string{"freezer/a/freezer.state": "THAWED\n"}, false},
		{"v1, the root has no state", "6:freezer:/\n", nil, false},
		{"another controller of that path", "6:cpu:/a\n", map[string]string{"freezer/a/freezer.state": "FROZEN\n"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := frozen(c.cgroups, hierarchy(t, c.files)); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

// freezer makes a cgroup whose processes it freezes and thaws.
func freezer(t *testing.T, version int) (join func(pid int), freeze func(bool)) {
	t.Helper()
	words := map[bool]string{true: "1", false: "0"}
	mount, state := filepath.Join(cgroupMount, "unified"), "cgroup.freeze"
	if _, err := os.Stat(filepath.Join(mount, "cgroup.procs")); err != nil {
		mount = cgroupMount
	}
	if version == 1 {
		words = map[bool]string{true: "FROZEN", false: "THAWED"}
		mount, state = filepath.Join(cgroupMount, "freezer"), "freezer.state"
	}
	dir := filepath.Join(mount, fmt.Sprintf("pitboss-test-freezer-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("NOT TESTED for real: this host gives us no freezer of cgroup version %d (%v); only the table above was", version, err)
	}
	set := func(name, value string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		set(state, words[false])
		await(t, 10*time.Second, "rid of the cgroup", func() bool { return os.Remove(dir) == nil })
	})
	return func(pid int) { set("cgroup.procs", fmt.Sprint(pid)) }, func(on bool) { set(state, words[on]) }
}

// A freezer of either version, around a worker that sleeps in a call: held, substituted, welcomed, and the call has its answer.
func TestAFrozenWorkerIsHeldAndWelcomedBack(t *testing.T) {
	for _, version := range []int{1, 2} {
		for _, inCall := range []bool{false, true} {
			t.Run(fmt.Sprintf("v%d, in a call %v", version, inCall), func(t *testing.T) {
				join, freeze := freezer(t, version)
				a := startTestAgent(t, testTools, func(p *PoolConfig) { quick(p); p.Heartbeat.HeldLimit = time.Minute })
				waitReady(t, a)
				first := workers(a)[0]
				var call <-chan outcome
				if inCall {
					call = begin(t, a, request("pause", `{"seconds":1.25}`))
					runs(t, a)
				}
				join(first.PID)
				freeze(true)
				await(t, 20*time.Second, "held with a substitute", func() bool { s, n := stateOf(a, first); return s == "held" && n == 1 })
				await(t, 5*time.Second, "shown as held", func() bool { w := workerOf(a, first.ID); return w != nil && w.Heartbeat.Verdict == "held" }) // a moment after its state
				serves(t, a, 5*time.Second)
				freeze(false)
				if inCall {
					if o := <-call; o.err != nil || o.result.Worker != first.ID {
						t.Errorf("the frozen call: %+v", o)
					}
				}
				await(t, 20*time.Second, "one worker again", func() bool { s, n := stateOf(a, first); return s == "ready" && n == 0 })
			})
		}
	}
}
