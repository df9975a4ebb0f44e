package chaos

import (
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// lesserCall names the feature that this test binary tries when it is started below the filter.
const lesserCall = "PITBOSS_CHAOS_TRY"

// TestTryAFeature is what the tests below start: it prints the error of the call, which asks for nothing that any kernel would do.
func TestTryAFeature(t *testing.T) {
	name := os.Getenv(lesserCall)
	if name == "" {
		return // nobody has asked
	}
	feature := lacks[name]
	var args [6]uintptr
	for i := range args {
		args[i] = ^uintptr(0)
	}
	if feature.arg >= 0 && feature.mask == 0xffffffff { // an option; ones are flags enough
		args[feature.arg] = uintptr(feature.value)
	}
	_, _, errno := unix.RawSyscall6(feature.nr, args[0], args[1], args[2], args[3], args[4], args[5])
	t.Logf("errno %d.", errno)
}

// tried starts the test above below these words and returns the error of the call.
func tried(t *testing.T, words []string, name string) syscall.Errno {
	t.Helper()
	line := append(slices.Clone(words), os.Args[0], "-test.run=^TestTryAFeature$", "-test.v")
	c := exec.Command(line[0], line[1:]...)
	c.Env = append(os.Environ(), lesserCall+"="+name)
	out, err := c.CombinedOutput()
	_, after, _ := strings.Cut(string(out), "errno ")
	number, _, ok := strings.Cut(after, ".")
	errno, convert := strconv.Atoi(number)
	if err != nil || !ok || convert != nil {
		t.Fatalf("%q: %v\n%s", line, err, out)
	}
	return syscall.Errno(errno)
}

// TestTheFilterTakesFeaturesAway: each with the kernel's own error and with a sandbox's. Without a filter nobody says EPERM.
func TestTheFilterTakesFeaturesAway(t *testing.T) {
	binary := thisHost(t).Binary
	for _, name := range slices.Sorted(maps.Keys(lacks)) {
		t.Run(name, func(t *testing.T) {
			if name == "ptrace" { // a container may refuse it itself
				t.Log("without a filter:", tried(t, nil, name))
			} else if errno := tried(t, nil, name); errno == unix.EPERM {
				t.Errorf("EPERM without a filter")
			}
			if errno := tried(t, Lesser(binary, "close_range", name, "madvise"), name); errno != lacks[name].errno {
				t.Errorf("%v, want %v", errno, lacks[name].errno)
			}
			if name == "clone3" {
				return // with EPERM there the C library starts no thread, and the test binary does not come to its call
			}
			if errno := tried(t, Lesser(binary, name+"=EPERM"), name); errno != unix.EPERM {
				t.Errorf("%v, want EPERM", errno)
			}
			if name != "openat2" {
				if errno := tried(t, Lesser(binary, "openat2=EPERM"), name); errno == unix.EPERM {
					t.Errorf("EPERM where another feature was taken away")
				}
			}
		})
	}
}

// TestTheListenerTakesFilesAway: those whose path ends so, from the command and from what it starts; its exit status comes out.
func TestTheListenerTakesFilesAway(t *testing.T) {
	const script = `cat /proc/self/task/$$/children; sh -c 'cat /proc/$$/task/$$/children && cat /proc/self/comm; test -e /proc/sys/kernel/random/boot_id && echo there'; exit 7`
	run := func(words ...string) (int, string) {
		line := append(words, "sh", "-c", script)
		c := exec.Command(line[0], line[1:]...)
		out, _ := c.CombinedOutput()
		return c.ProcessState.ExitCode(), string(out)
	}
	code, said := run("env")
	if code != 7 || strings.Count(said, "No such file") != 1 || !strings.Contains(said, "cat\n") || !strings.Contains(said, "there\n") { // cat is no task of the shell
		t.Fatalf("control: exit code %d: %s", code, said)
	}
	code, said = run(Lesser(thisHost(t).Binary, "file:/children", "file:/boot_id", "clone3")...)
	if code != 7 || strings.Count(said, "No such file") != 2 || strings.Contains(said, "cat\n") || strings.Contains(said, "there\n") {
		t.Errorf("exit code %d: %s", code, said)
	}
}

func TestALesserKernelMisnamed(t *testing.T) {
	for feature, want := range map[string]string{"clone4": `no feature "clone4"; there are clone3, `, "clone3=ENOENT": "only =EPERM"} {
		line := append(Lesser(thisHost(t).Binary, feature), "true")
		c := exec.Command(line[0], line[1:]...)
		if out, _ := c.CombinedOutput(); c.ProcessState.ExitCode() != 70 || !strings.Contains(string(out), want) {
			t.Errorf("%s: %s", feature, out)
		}
	}
}

// TestAKilledVerifyTakesStrangeHostsWithIt: where words stand before the command, its watchdog has another parent than verify.
func TestAKilledVerifyTakesStrangeHostsWithIt(t *testing.T) {
	host := thisHost(t)
	for _, s := range Catalogue() {
		switch s.Name {
		case "pid-1", "no-children-lists", "strict-sandbox", "user-namespace", "hidepid-without-lists", "read-only-root":
		default:
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			if s.Cannot != nil && s.Cannot(host) != "" {
				t.Skip(s.Cannot(host))
			}
			killVerify(t, s.Name, func(tree Tree) bool {
				guests := 0
				for _, s := range tree.Alive() {
					if programOf(s.PID) == "sleep" && programOf(parentOf(s.PID)) != "sh" { // not the control's
						guests++
					}
				}
				return guests > guestEscapees && agentBelow(tree)
			})
		})
	}
}

// agentBelow says that an agent of the tree has its watchdog above it.
func agentBelow(tree Tree) bool {
	for _, s := range tree.Alive() {
		if programOf(s.PID) == "pitboss" && programOf(parentOf(s.PID)) == "pitboss-watchdog" {
			return true
		}
	}
	return false
}
