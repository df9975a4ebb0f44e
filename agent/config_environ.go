package agent

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

const overridePrefix = "PITBOSS_"

// ownVariables are the variables of the prefix that are no overrides of the configuration, with their meaning.
var ownVariables = map[string]string{
	"PITBOSS_SOCKET":          "the agent's socket, for the command line and for programs of `pitboss run`",
	"PITBOSS_PYTHON":          "interpreter of pools that name none",
	"PITBOSS_BINARY":          "path of pitboss for programs that launch a private agent",
	"PITBOSS_WATCHDOG":        "path of the watchdog's binary",
	GuardEnv:                  "descriptor of the link to the watchdog",
	"PITBOSS_LOCK_FD":         "descriptor of the lock that watchdog and agent share",
	"PITBOSS_INNER_FD":        "mark of a watchdog below an outer process",
	"PITBOSS_LISTEN_FDS":      "how many listeners the watchdog hands on",
	"PITBOSS_LISTEN_FDNAMES":  "the names of these listeners",
	"PITBOSS_CGROUP":          "delegated: the watchdog may divide the cgroup that it was started in",
	CgroupDirEnv:              "the delegated cgroup, when the watchdog has moved to its supervisor/",
	CgroupRefusedEnv:          "why the watchdog could not divide its cgroup",
	"PITBOSS_TUNED":           "mark of a watchdog that has set its memory limits and priority",
	NiceEnv:                   "niceness of workers, where the watchdog has raised its own",
	"PITBOSS_RUN_ID":          "run id of the agent above",
	"PITBOSS_BIN":             "development: directory of binaries that are already built",
	"PITBOSS_KEEP":            "development: keep what a test has left",
	"PITBOSS_FUZZ_EXAMPLES":   "development: how many examples a property is tried with",
	"PITBOSS_COVERAGE_CONFIG": "development: coverage of the Python half",
	"PITBOSS_COVERAGE_START":  "development: coverage of the Python half",
	"PITBOSS_BENCH_TOKEN":     "development: marks the processes of a measurement",
	"PITBOSS_CHAOS_LISTENER":  "pitboss verify: hands a lesser kernel's listener on",
	"PITBOSS_CHAOS_TOKEN":     "pitboss verify: marks the processes of a round",
	"PITBOSS_CHAOS_TRY":       "development: what a test of a lesser kernel calls",
	"PITBOSS_DEMO_TOKEN":      "development: marks the processes of the demo",
	"PITBOSS_TEST":            "development: marks the processes of a test",
	"PITBOSS_TEST_*":          "development: settings of tests",
	"PITBOSS_PORT, PITBOSS_PORT_*, PITBOSS_SERVICE_*": "set by Kubernetes beside a service named pitboss; ignored",
}

// isOwn says that a variable is not meant as an override. Kubernetes announces a service of the name "pitboss" to every
// container of its namespace by PITBOSS_SERVICE_HOST, PITBOSS_PORT, …: that must not keep an agent from starting.
func isOwn(name string) bool {
	if _, ok := ownVariables[name]; ok || name == "PITBOSS_PORT" {
		return true
	}
	for _, prefix := range []string{"PITBOSS_TEST_", "PITBOSS_PORT_", "PITBOSS_SERVICE_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// variable is the name that overrides a key: upper case, with _ for every other character than letters and digits.
func variable(key string) string {
	return overridePrefix + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case (r >= 'A' && r <= 'Z') || (r >= '0' && r <= '9'):
			return r
		}
		return '_'
	}, key)
}

// target is one value that a variable may set.
type target struct {
	key    string // by the pool's number
	name   string // by the pool's name
	value  reflect.Value
	reason string // why it may not be set after all
}

// targets are all values of the configuration by their variables. Names of pools may map to the same variable (a-b, a_b).
func (l *loading) targets() map[string][]target {
	all := map[string][]target{}
	add := func(t target) { all[variable(t.name)] = append(all[variable(t.name)], t) }
	var walk func(v reflect.Value, key, name string)
	walk = func(v reflect.Value, key, name string) {
		for i := range v.NumField() {
			field := v.Field(i)
			tag := v.Type().Field(i).Tag.Get("yaml")
			key, name := joinKey(key, tag), joinKey(name, tag)
			switch pools, isPools := field.Interface().([]PoolConfig); {
			case isPools:
				for j := range pools {
					if poolName.MatchString(pools[j].Name) {
						walk(field.Index(j), fmt.Sprintf("%s[%d]", key, j), joinKey(name, pools[j].Name))
					}
				}
			case field.Kind() == reflect.Struct:
				walk(field, key, name)
			case field.Kind() == reflect.Map || strings.HasSuffix(key, "].name"):
				add(target{key, name, field, "cannot be set by a variable; set it in the file"})
			default:
				add(target{key, name, field, ""})
			}
		}
	}
	walk(reflect.ValueOf(&l.cfg).Elem(), "", "")
	for later := range notAvailable {
		const reason = "not available in this version; remove it"
		if rest, ofPool := strings.CutPrefix(later, "pools[]."); ofPool {
			for i, p := range l.cfg.Pools {
				add(target{fmt.Sprintf("pools[%d].%s", i, rest), "pools." + p.Name + "." + rest, reflect.Value{}, reason})
			}
		} else {
			add(target{later, later, reflect.Value{}, reason})
		}
	}
	return all
}

// overrides puts the environment over the files.
func (l *loading) overrides(environ []string) {
	given := map[string]string{}
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok && strings.HasPrefix(name, overridePrefix) && !isOwn(name) {
			given[name] = value
		}
	}
	targets := l.targets()
	for _, name := range slices.Sorted(maps.Keys(given)) {
		l.override(name, given[name], targets)
	}
}

func (l *loading) override(name, text string, targets map[string][]target) {
	fault := func(key, format string, args ...any) {
		l.faults = append(l.faults, Fault{Variable: name, Key: key, Problem: fmt.Sprintf(format, args...)})
	}
	found := targets[name]
	switch {
	case len(found) == 0:
		if problem := l.unknownVariable(name, targets); problem != "" {
			fault("", "%s", problem)
		}
	case len(found) > 1:
		var names []string
		for _, t := range found {
			names = append(names, t.name)
		}
		slices.Sort(names)
		if names = slices.Compact(names); len(names) == 1 { // of two pools of one name, which is a fault of its own
			return
		}
		fault("", "may mean %s; rename a pool, or set the values in the file", strings.Join(names, " or "))
	case found[0].reason != "":
		fault(found[0].name, "%s", found[0].reason)
	default:
		t := found[0]
		if err := setText(t.value, text); err != nil {
			fault(t.name, "%v", err)
			return
		}
		l.set[t.key] = Origin{Kind: FromVariable, Variable: name}
	}
}

// setText is setScalar, and for a list of texts its items between commas.
func setText(v reflect.Value, text string) error {
	if v.Kind() != reflect.Slice {
		return setScalar(v, text)
	}
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	v.Set(reflect.ValueOf(items))
	return nil
}

// unknownVariable says what is wrong with a variable that sets nothing; "" while its pool may stand in a file that cannot be
// read.
func (l *loading) unknownVariable(name string, targets map[string][]target) string {
	for _, known := range slices.Sorted(maps.Keys(targets)) { // a key below one that is refused
		if list := targets[known]; len(list) == 1 && list[0].reason != "" && strings.HasPrefix(name, known+"_") {
			return list[0].name + ": " + list[0].reason
		}
	}
	const remove = "; remove it, or see `pitboss config defaults` for the keys"
	pool, pools := l.poolOfVariable(name)
	if strings.HasPrefix(name, overridePrefix+"POOLS_") && pool == "" && l.incomplete() {
		return ""
	}
	near := NearName(name, slices.Concat(slices.Sorted(maps.Keys(targets)), slices.Sorted(maps.Keys(ownVariables))))
	switch {
	case near == "" && pool != "":
		return fmt.Sprintf("sets no key of pool %q%s", pool, remove)
	case near == "" && strings.HasPrefix(name, overridePrefix+"POOLS_") && pools == nil:
		return "names no pool; there is none" + remove
	case near == "" && strings.HasPrefix(name, overridePrefix+"POOLS_"):
		return "names no pool; known: " + strings.Join(pools, ", ")
	}
	if near != "" {
		return fmt.Sprintf("sets no key; did you mean %q?", near)
	}
	return "sets no key" + remove
}

// poolOfVariable is the pool that a variable speaks of, "" for none, and how the variables of all pools begin.
func (l *loading) poolOfVariable(name string) (pool string, known []string) {
	for _, p := range l.cfg.Pools {
		prefix := variable("pools."+p.Name) + "_"
		known = append(known, prefix+"…")
		if strings.HasPrefix(name, prefix) {
			pool = p.Name
		}
	}
	return pool, known
}

// incomplete says that a file could not be read, so that some pools may not be known.
func (l *loading) incomplete() bool {
	return len(l.unreadable) > 0 || slices.ContainsFunc(l.readers, func(r *configReader) bool { return r.broken })
}
