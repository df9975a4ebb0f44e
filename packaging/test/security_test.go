//go:build booted

package booted

import (
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestVerify: the manager understands every line of the units, and what they point to is there; a word that it does not know
// is no error to it, only a line on standard error.
func TestVerify(t *testing.T) {
	serving(t)
	verify := func(args ...string) string {
		out, err := exec.Command("systemd-analyze", append([]string{"verify"}, args...)...).CombinedOutput()
		if err != nil {
			return string(out) + err.Error()
		}
		return string(out)
	}
	if out := verify(service, socket, "pitboss@x.service", "pitboss@x.socket"); out != "" {
		t.Errorf("%s", out)
	}
	dropIn(t, "[Service]\nPitbossUnknown=yes\n")
	if out := verify(service); !strings.Contains(out, "PitbossUnknown") {
		t.Errorf("an unknown word is not found: %q", out)
	}
}

// TestExposure: the running service is as closed as its unit says while a worker computes with numpy; with the GPU example too.
func TestExposure(t *testing.T) {
	const limit = 2.0
	serving(t)
	if out, code := call(t, "matrix", "n=300"); code != 0 || out != "27000000.0" {
		t.Errorf("numpy: %q, exit %d", out, code)
	}
	running := begin(t, "nap", "seconds=3")
	for _, c := range []struct{ name, unit string }{{"pitboss.service", service}, {"pitboss@.service", "pitboss@x.service"}} {
		out := run(t, "systemd-analyze", "security", "--offline=no", "--no-pager", c.unit)
		found := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+) `).FindStringSubmatch(out)
		if found == nil {
			t.Fatalf("%s", out)
		}
		level, err := strconv.ParseFloat(found[1], 64)
		must(t, err)
		figure("exposure of "+c.name, "%.1f", level)
		if level > limit {
			t.Errorf("%s: exposure %v\n%s", c.name, level, out)
		}
	}
	if out, code := running.end(t); code != 0 {
		t.Errorf("%q", out)
	}
	for _, group := range []string{"video", "render"} { // a host with a GPU has them
		run(t, "groupadd", "--force", "--system", group)
	}
	run(t, "mkdir", "-p", "/run/systemd/system/pitboss.service.d")
	run(t, "cp", "/usr/share/doc/pitboss/examples/gpu.conf", "/run/systemd/system/pitboss.service.d/gpu.conf")
	run(t, "systemctl", "daemon-reload")
	run(t, "systemctl", "restart", service)
	ready(t)
	answers(t)
	out := run(t, "systemd-analyze", "security", "--offline=no", "--no-pager", "--threshold=20", service)
	figure("exposure with examples/gpu.conf", "%s", regexp.MustCompile(`: ([0-9.]+) `).FindStringSubmatch(out[strings.LastIndex(out, "Overall"):])[1])
}
