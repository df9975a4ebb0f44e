package agent

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"text/template"
	"time"

	"github.com/pitboss-run/pitboss/ipc"
	"golang.org/x/sys/unix"
)

const (
	// workerDescriptors is what one worker costs the agent, and spareDescriptors what it needs besides.
	workerDescriptors = 10
	spareDescriptors  = 200
)

var poolName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

// Validate reports every fault of a configuration that came from no file.
func (c Config) Validate() error {
	var all []error
	for _, f := range c.faults() {
		all = append(all, f)
	}
	return errors.Join(all...)
}

// checker collects faults below one key.
type checker struct {
	key    string
	faults []Fault
}

func (c *checker) add(key, format string, args ...any) {
	c.faults = append(c.faults, Fault{Key: joinKey(c.key, key), Problem: fmt.Sprintf(format, args...)})
}

func (c *checker) oneOf(key, value string, allowed ...string) {
	for _, a := range allowed {
		if value == a {
			return
		}
	}
	c.add(key, "%q is not known; it must be one of %q", value, allowed)
}

func (c *checker) duration(key string, v, low, high time.Duration) {
	if v < low || v > high {
		c.add(key, "%s is out of range; it must be between %s and %s", v, low, high)
	}
}

func (c *checker) number(key string, v, low, high int64) {
	if v < low || v > high {
		c.add(key, "%d is out of range; it must be between %d and %d", v, low, high)
	}
}

func (c Config) faults() []Fault {
	top := &checker{}
	c.Access.check(top)
	top.oneOf("watchdog.mode", c.Watchdog.Mode, "auto", "off")
	top.oneOf("watchdog.on_loss", c.Watchdog.OnLoss, "drain", "continue")
	top.duration("watchdog.agent_timeout", c.Watchdog.AgentTimeout, 3*time.Second, 300*time.Second)
	if c.Watchdog.Require == "cgroup" {
		top.add("watchdog.require", "tier cgroup is not available in this version; tree is the highest")
	} else {
		top.oneOf("watchdog.require", c.Watchdog.Require, "", "tree")
	}
	if c.Watchdog.Mode == "off" && c.Watchdog.Require != "" {
		top.add("watchdog.require", "%q cannot be had with watchdog.mode: off; remove one of the two", c.Watchdog.Require)
	}
	top.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	top.oneOf("log.format", c.Log.Format, "auto", "text", "json")
	faults := top.faults
	seen := map[string]bool{}
	workers := 0
	for i, p := range c.Pools {
		check := &checker{key: fmt.Sprintf("pools[%d]", i)}
		p.check(check, c.Watchdog.Mode)
		if seen[p.Name] {
			check.add("name", "%q is the name of another pool; names must differ", p.Name)
		}
		seen[p.Name] = true
		workers += p.Workers
		faults = append(faults, check.faults...)
	}
	if f := descriptorFault(workers); f != nil {
		faults = append(faults, *f)
	}
	return faults
}

// descriptorFault compares what all workers need with the hard limit: running out later would refuse spawns at the worst time.
func descriptorFault(workers int) *Fault {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return nil
	}
	need := uint64(workers*workerDescriptors + spareDescriptors)
	if need <= limit.Max {
		return nil
	}
	return &Fault{Key: "pools", Problem: fmt.Sprintf("%d workers need %d descriptors, the hard limit is %d; lower workers or raise the limit (ulimit -Hn, LimitNOFILE=)", workers, need, limit.Max)}
}

func (p PoolConfig) check(c *checker, mode string) {
	if !poolName.MatchString(p.Name) {
		c.add("name", "%q is no pool name; use 1 to 32 of a-z, 0-9, - and _, beginning with a letter or digit", p.Name)
	}
	p.checkPlaces(c)
	c.number("workers", int64(p.Workers), 1, 1000)
	c.oneOf("start", p.Start, "fork", "exec")
	c.number("start_parallel", int64(p.StartParallel), 1, 100)
	for name, value := range p.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			c.add("env", "%q is no name of a variable", name)
		}
		if _, err := expandEnv(value, p.Name, 0); err != nil {
			c.add("env."+name, "cannot expand %q: %v", value, err)
		}
	}
	c.number("queue.max", int64(p.Queue.Max), 0, 1_000_000)
	c.duration("queue.timeout", p.Queue.Timeout, time.Millisecond, time.Hour)
	c.duration("timeouts.start", p.Timeouts.Start, time.Second, time.Hour)
	c.duration("timeouts.call", p.Timeouts.Call, 10*time.Millisecond, 24*time.Hour)
	c.duration("timeouts.stream", p.Timeouts.Stream, 10*time.Millisecond, 24*time.Hour)
	c.duration("timeouts.drain", p.Timeouts.Drain, 5*time.Second, 300*time.Second)
	c.duration("timeouts.kill", p.Timeouts.Kill, 10*time.Millisecond, time.Minute)
	if err := p.Heartbeat.detector().Validate(); err != nil {
		for line := range strings.Lines(err.Error()) {
			key, problem, _ := strings.Cut(strings.TrimSpace(line), ": ")
			c.add(key, "%s", problem)
		}
	}
	if p.Limits.NoFile != 0 {
		c.number("limits.nofile", int64(p.Limits.NoFile), 64, 1<<20)
	}
	c.number("limits.payload", int64(p.Limits.Payload), 1<<10, min(3<<30, ipc.MaxPayloadLimit))
	c.oneOf("serialization", p.Serialization, "strict", "markers")
	if p.Guard == "cgroup" {
		c.add("guard", "tier cgroup is not available in this version; tree is the highest")
	} else {
		c.oneOf("guard", p.Guard, "tree", "group")
	}
	if mode == "off" && p.Guard == "tree" {
		c.add("guard", "tier tree cannot be had with watchdog.mode: off; say guard: group if killing by process groups is enough")
	}
}

func (p PoolConfig) checkPlaces(c *checker) {
	file, _, isFile := adapterFile(p.Adapter)
	switch {
	case p.Adapter == "":
		c.add("adapter", "is missing; name a module or a file, such as tools.py")
	case isFile:
		if info, err := os.Stat(file); err != nil {
			c.add("adapter", "cannot read %q: %v", file, err)
		} else if info.IsDir() {
			c.add("adapter", "%q is a directory; name the file in it", file)
		}
	}
	if info, err := os.Stat(p.Workdir); err != nil {
		c.add("workdir", "cannot use %q: %v", p.Workdir, err)
	} else if !info.IsDir() {
		c.add("workdir", "%q is not a directory", p.Workdir)
	}
}

// expandEnv fills {{.Index}} and {{.Pool}} into a value of env.
func expandEnv(value, pool string, index int) (string, error) {
	if !strings.Contains(value, "{{") {
		return value, nil
	}
	t, err := template.New("env").Option("missingkey=error").Parse(value)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, struct {
		Pool  string
		Index int
	}{pool, index})
	return b.String(), err
}
