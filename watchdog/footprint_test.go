package watchdog

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The bars of an idle watchdog, in kB.
const (
	anonymousBar = 1024
	rssBar       = 3072
)

// TestIdleFootprint holds the watchdog's memory with 1 000 keepers and 1 000 workers guarded (2 000 pidfds) and beats, of which
// none may leave anything behind.
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
	if n := descriptors(t, pid); n < 2000 {
		t.Fatalf("%d descriptors: the pidfds are not held", n)
	}
	before, start := wakeUps(t, pid), time.Now()
	<-time.After(10 * beat) // the measured interval itself
	switches, span := wakeUps(t, pid)-before, time.Since(start)
	anon, rss := statusKB(t, pid, "RssAnon"), statusKB(t, pid, "VmRSS")
	t.Logf("anonymous %d kB, RSS %d kB, %d voluntary switches in %v at a beat every %v", anon, rss, switches, span, beat)
	if anon >= anonymousBar {
		t.Errorf("anonymous memory is %d kB, the bar is %d", anon, anonymousBar)
	}
	if rss >= rssBar {
		t.Errorf("RSS is %d kB, the bar is %d", rss, rssBar)
	}
	// About six: the poll, and the runtime's monitor, which takes the processor back from a thread that waits in the kernel.
	if beats := int(span / beat); switches > 20*(beats+1) {
		t.Errorf("%d voluntary switches for about %d beats", switches, beats)
	}
	if switches == 0 {
		t.Error("the counter is blind: beats cost no switch")
	}
	tr.signal(syscall.SIGTERM)
	tr.exit(0)
}

// TestNoWakeUpsWithoutBeats: nothing but beats, signals and deaths makes the watchdog run.
func TestNoWakeUpsWithoutBeats(t *testing.T) {
	tr := startTree(t, script{Hello: true, Guards: 200}, options{flags: []string{"--agent-timeout", "24h"}})
	tr.ready(0)
	pid := tr.cmd.Process.Pid
	// The runtime's own monitor falls asleep some time after the last event.
	for end := time.Now().Add(patience); ; {
		before := wakeUps(t, pid)
		<-time.After(time.Second) // the measured interval itself
		if n := wakeUps(t, pid) - before; n == 0 {
			break
		} else if time.Now().After(end) {
			t.Fatalf("%d voluntary switches in the last second without an event", n)
		}
	}
	before := wakeUps(t, pid)
	<-time.After(3 * time.Second) // the measured interval itself
	if n := wakeUps(t, pid) - before; n != 0 {
		t.Errorf("%d voluntary switches in 3 s without an event", n)
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
