package agent

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"text/template"

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

func (c Config) faults() []Fault {
	top := &checker{}
	c.Access.check(top)
	top.tags(reflect.ValueOf(c), "")
	if c.Watchdog.Mode == "off" && c.Watchdog.Require != "" {
		top.add("watchdog.require", "%q cannot be had with watchdog.mode: off; remove one of the two", c.Watchdog.Require)
	}
	faults := top.faults
	seen := map[string]int{}
	workers := 0
	for i, p := range c.Pools {
		check := &checker{key: fmt.Sprintf("pools[%d]", i)}
		p.check(check, c.Watchdog.Mode)
		if need := 2 * p.Limits.Payload; need > c.API.Memory && !check.has("limits.payload") {
			check.add("limits.payload", "api.memory (%s) does not hold two payloads of %s; raise it to %s", yamlScalar(reflect.ValueOf(c.API.Memory)),
				yamlScalar(reflect.ValueOf(p.Limits.Payload)), yamlScalar(reflect.ValueOf(need)))
		}
		if first, twice := seen[p.Name]; twice {
			check.add("name", "%q is the name of another pool; names must differ", p.Name)
			check.faults[len(check.faults)-1].other = fmt.Sprintf("pools[%d].name", first)
		} else {
			seen[p.Name] = i
		}
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
	c.tags(reflect.ValueOf(p), "")
	for _, name := range slices.Sorted(maps.Keys(p.Env)) {
		value := p.Env[name]
		if name == "" || strings.ContainsAny(name, "=\x00") {
			c.add("env", "%q is no name of a variable", name)
		}
		if _, err := expandTemplate(value, p.Name, 0); err != nil {
			c.add("env."+name, "cannot expand %q: %v", value, err)
		}
	}
	p.checkRelease(c)
	if err := p.Heartbeat.detector().Validate(); err != nil {
		for line := range strings.Lines(err.Error()) {
			if key, problem, _ := strings.Cut(strings.TrimSpace(line), ": "); !c.has(key) {
				c.add(key, "%s", problem)
			}
		}
	}
	if mode == "off" && p.Guard != "group" && !c.has("guard") {
		c.add("guard", "tier %s cannot be had with watchdog.mode: off; say guard: group if killing by process groups is enough", p.Guard)
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
	if p.Python != "" {
		if _, err := findInterpreter(p.Python, p.Workdir, os.Getenv); err != nil {
			c.add("python", "%v", err)
		}
	}
	if info, err := os.Stat(p.Workdir); err != nil {
		c.add("workdir", "cannot use %q: %v", p.Workdir, err)
	} else if !info.IsDir() {
		c.add("workdir", "%q is not a directory", p.Workdir)
	}
}

// expandTemplate fills {{.Index}}, {{.Pool}} and {{add N .Index}} into a value of env or release.
func expandTemplate(value, pool string, index int) (string, error) {
	if !strings.Contains(value, "{{") {
		return value, nil
	}
	add := func(a, b int) int { return a + b }
	t, err := template.New("value").Funcs(template.FuncMap{"add": add}).Option("missingkey=error").Parse(value)
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
