package watchdog

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseFlags(t *testing.T) {
	base := config{agentTimeout: 8 * time.Second, stopTimeout: 45 * time.Second, command: []string{"agent", "--flag"}}
	with := func(f func(*config)) config { c := base; f(&c); return c }
	for _, c := range []struct {
		args string // after which "-- agent --flag" follows
		want config
	}{
		{"", base},
		{"--lock /l", with(func(c *config) { c.lock = "/l" })},
		{"--lock=/l=1", with(func(c *config) { c.lock = "/l=1" })},
		{"--runtime-dir /d --remove-dir", with(func(c *config) { c.runtimeDir, c.removeDir = "/d", true })},
		{"--remove-dir --runtime-dir=/d", with(func(c *config) { c.runtimeDir, c.removeDir = "/d", true })},
		{"--agent-timeout 100ms --stop-timeout=24h", with(func(c *config) { c.agentTimeout, c.stopTimeout = 100*time.Millisecond, 24*time.Hour })},
		{"--die-with-parent 12", with(func(c *config) { c.parent = 12 })},
		{"--inner", with(func(c *config) { c.inner = true })},
	} {
		args := append(strings.Fields(c.args), "--", "agent", "--flag")
		got, f := parseFlags(args)
		if f != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %+v %v, want %+v", c.args, got, f, c.want)
		}
	}
	for _, help := range []string{"--help", "-h"} {
		if got, f := parseFlags([]string{help}); f != nil || !got.help {
			t.Errorf("%s: %+v %v", help, got, f)
		}
	}
	if got, f := parseFlags([]string{"--version"}); f != nil || !got.version {
		t.Errorf("--version: %+v %v", got, f)
	}
}

func TestParseFlagsRefuses(t *testing.T) {
	for args, want := range map[string]string{
		"":                            "no command",
		"--":                          "no command",
		"--lock /l":                   "no command",
		"--lock":                      `"--lock"`,
		"--lock= -- a":                `--lock ""`,
		"--runtime-dir= -- a":         `--runtime-dir ""`,
		"--remove-dir -- a":           "without --runtime-dir",
		"--remove-dir=1 -- a":         "takes no value",
		"--inner=1 -- a":              "takes no value",
		"--agent-timeout 99ms -- a":   "100ms to 24h",
		"--agent-timeout 24h1ms -- a": "100ms to 24h",
		"--stop-timeout 5 -- a":       "100ms to 24h",
		"--stop-timeout -5s -- a":     "100ms to 24h",
		"--stop-timeout NaN -- a":     "100ms to 24h",
		"--die-with-parent 0 -- a":    "a process id",
		"--die-with-parent -3 -- a":   "a process id",
		"--die-with-parent x -- a":    "a process id",
		"--die-with-parent 99999999999999999999 -- a": "a process id",
		"--unknown x -- a":                            `"--unknown"`,
		"--unknown=x -- a":                            `"--unknown"`,
		"agent":                                       `"agent"`,
		"agent x -- a":                                `"agent"`,
	} {
		_, f := parseFlags(strings.Fields(args))
		if f == nil || f.code != exitUsage || !strings.HasPrefix(f.text, "cannot ") || !strings.Contains(f.text, want) || !strings.HasSuffix(f.text, usage) {
			t.Errorf("%q: %v, want usage with %q", args, f, want)
		}
	}
}

// The inner process must understand what the outer one passes on, and get everything but the parent.
func TestInnerArgs(t *testing.T) {
	c, f := parseFlags(strings.Fields("--lock /l --runtime-dir /d --remove-dir --agent-timeout 1500ms --stop-timeout 90s --die-with-parent 7 -- agent -- x"))
	if f != nil {
		t.Fatal(f)
	}
	inner, f := parseFlags(c.innerArgs())
	if f != nil {
		t.Fatal(f)
	}
	c.inner, c.parent = true, 0
	if !reflect.DeepEqual(inner, c) {
		t.Errorf("%+v, want %+v", inner, c)
	}
}
