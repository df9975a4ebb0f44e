package watchdog

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestIdleFootprint holds the watchdog's memory with 1 000 keepers and 1 000 workers guarded (2 000 pidfds), beating once a
// second, and no wake-up besides beats. The goal is 1 024 kB anonymous; about 1 250 kB is what it takes today, and the test
// holds that line until the goal is reached.
func TestIdleFootprint(t *testing.T) {
	if covered() {
		t.Skip("counters change the footprint; `make test` measures it")
	}
	const beat = 200 * time.Millisecond
	tr := startTree(t, script{Hello: true, Guards: 2000, Beat: beat}, options{})
	tr.ready(0)
	if !tr.stdout.has("guarded 2000") {
		t.Fatal("not guarded")
	}
	pid := tr.cmd.Process.Pid
	before, start := wakeUps(t, pid), time.Now()
	<-time.After(10 * beat) // the measured interval itself
	switches, span := wakeUps(t, pid)-before, time.Since(start)
	anon, rss := statusKB(t, pid, "RssAnon"), statusKB(t, pid, "VmRSS")
	t.Logf("anonymous %d kB, RSS %d kB, %d voluntary switches in %v at a beat every %v", anon, rss, switches, span, beat)
	if anon >= 1536 {
		t.Errorf("anonymous memory is %d kB, the line is 1536", anon)
	}
	if rss >= 3584 {
		t.Errorf("RSS is %d kB, the line is 3584", rss)
	}
	if beats := int(span / beat); switches > 8*(beats+1) {
		t.Errorf("%d voluntary switches for about %d beats", switches, beats)
	}
	tr.signal(syscall.SIGTERM)
	tr.exit(0)
}

func statusKB(t *testing.T, pid int, field string) int {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(b), "\n"+field+":")
	if !ok {
		t.Fatalf("no %s in\n%s", field, b)
	}
	n, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// wakeUps sums the voluntary context switches of all threads.
func wakeUps(t *testing.T, pid int) int {
	t.Helper()
	dir := "/proc/" + strconv.Itoa(pid) + "/task"
	tasks, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, task := range tasks {
		b, _ := os.ReadFile(dir + "/" + task.Name() + "/status")
		_, after, _ := strings.Cut(string(b), "\nvoluntary_ctxt_switches:")
		count, _ := strconv.Atoi(strings.Fields(after)[0])
		n += count
	}
	return n
}
