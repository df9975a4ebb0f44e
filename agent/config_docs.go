package agent

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

const docsHead = `# Configuration

Generated from the tags of the structs in agent/config.go by ` + "`make gen`" + `; ` + "`make check`" + ` compares.

## Where values come from

From the weakest to the strongest:

1. The default of the key.
2. ` + "`--config FILE`" + `, by default /etc/pitboss/pitboss.yaml.
3. ` + "`conf.d/*.yaml`" + ` beside that file, in lexical order; names that begin with a dot are left out. Each file may add pools. A pool
   of the same name in two files, and any other key that two files set, are errors that name both places.
   Relative paths of a pool start at the directory of the file that the pool stands in.
4. Environment variables ` + "`PITBOSS_<PATH>`" + `.

All faults of all sources are printed at once, each with file, line, column and key, or with the variable. ` + "`pitboss config check FILE`" + `
says whether all is well, ` + "`pitboss config show`" + ` prints the effective values, each with where it came from. It hides the values of
a pool's env unless it is told ` + "`--show-env`" + `. Both read the environment of the shell that they run in, not that of a running agent.

## Environment variables

The variable of a key is its path in upper case, behind ` + "`PITBOSS_`" + `, with ` + "`_`" + ` for dots. A pool goes by its name, in which ` + "`-`" + ` becomes
` + "`_`" + ` too: the variable for ` + "`timeouts.call`" + ` of the pool ` + "`gpu-a`" + ` is ` + "`PITBOSS_POOLS_GPU_A_TIMEOUTS_CALL`" + `. Where two pools
(` + "`gpu-a`" + ` and ` + "`gpu_a`" + `) would share a variable, setting it is an error that names both. Items of a list are separated by commas. A variable
cannot add or rename a pool and cannot set its env. A variable with the prefix that sets nothing is an error, except for these:

| variable | meaning |
|---|---|
`

// ConfigMarkdown is docs/config.md. It does not depend on the host that generates it.
func ConfigMarkdown() string {
	var b strings.Builder
	b.WriteString(docsHead)
	for _, name := range slices.Sorted(maps.Keys(ownVariables)) {
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, ownVariables[name])
	}
	b.WriteString("\n## Keys\n\n| key | meaning | unit | range | default |\n|---|---|---|---|---|\n")
	cfg, pool := Default(), DefaultPool()
	cfg.Pools = []PoolConfig{pool}
	keyRows(&b, reflect.ValueOf(cfg), "")
	b.WriteString("\nA duration is a number with a unit, such as 500ms, 10s or 2m; a size is bytes, or a number with KiB, MiB or GiB; a share is 0.1 or 10%.\n")
	b.WriteString("\nThese keys are known and refused: they are not available in this version.\n\n")
	for _, key := range slices.Sorted(maps.Keys(notAvailable)) {
		fmt.Fprintf(&b, "- `%s`\n", key)
	}
	pool.Name, pool.Adapter, pool.Workers = "default", "tools.py", 2
	fmt.Fprintf(&b, "\n## All keys with their defaults\n\n```yaml\n%s```\n", commented(cfg, pool))
	return b.String()
}

func keyRows(b *strings.Builder, v reflect.Value, prefix string) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key := joinKey(prefix, field.Tag.Get("yaml"))
		if _, pools := v.Field(i).Interface().([]PoolConfig); pools {
			keyRows(b, v.Field(i).Index(0), key+"[]")
			continue
		}
		if field.Type.Kind() == reflect.Struct {
			keyRows(b, v.Field(i), key)
			continue
		}
		value := field.Tag.Get("default")
		if value == "" {
			value = "`" + yamlScalar(v.Field(i)) + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", key, field.Tag.Get("doc"), field.Tag.Get("unit"), rangeText(field), value)
	}
}
