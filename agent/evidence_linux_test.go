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
			mount := t.TempDir()
			for name, text := range c.files {
				file := filepath.Join(mount, name)
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				write(t, file, text, 0o600)
			}
			if got := throttledFor(c.cgroups, mount); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// quotaGroup makes a cgroup whose processes may use a tenth of a processor, and returns how to move one in.
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
	set("cpu.cfs_quota_us", "10000")
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
		t.Errorf("throttled for %.0f %% at a tenth of a processor", 100*got)
	}
	a.Hurry()
	<-burning
}
