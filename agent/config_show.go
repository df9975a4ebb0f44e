package agent

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// ShowYAML is the configuration as YAML that can be loaded again, with the origin of each value as a comment.
func (c Config) ShowYAML(origins Origins) string {
	var b strings.Builder
	showYAML(&b, reflect.ValueOf(c), "", "", origins)
	return b.String()
}

func showYAML(b *strings.Builder, v reflect.Value, indent, prefix string, origins Origins) {
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("yaml")
		key := joinKey(prefix, name)
		field := v.Field(i)
		switch value := field.Interface().(type) {
		case []PoolConfig:
			if len(value) == 0 {
				fmt.Fprintf(b, "%s%s: []\n", indent, name)
				continue
			}
			fmt.Fprintf(b, "%s%s:\n", indent, name)
			for j, pool := range value {
				fmt.Fprintf(b, "%s  -\n", indent)
				showYAML(b, field.Index(j), indent+"    ", joinKey(key, pool.Name), origins)
			}
		case map[string]string:
			if len(value) == 0 {
				fmt.Fprintf(b, "%s%s: {}  # %s\n", indent, name, Origin{})
				continue
			}
			fmt.Fprintf(b, "%s%s:\n", indent, name)
			for _, entry := range slices.Sorted(maps.Keys(value)) {
				fmt.Fprintf(b, "%s  %s: %s  # %s\n", indent, yamlText(entry), yamlText(value[entry]), origins[joinKey(key, entry)])
			}
		default:
			if field.Kind() == reflect.Struct {
				fmt.Fprintf(b, "%s%s:\n", indent, name)
				showYAML(b, field, indent+"  ", key, origins)
			} else {
				fmt.Fprintf(b, "%s%s: %s  # %s\n", indent, name, yamlScalar(field), origins[key])
			}
		}
	}
}

// ShowTree is the configuration for JSON, with the keys of the file: durations and shares as in YAML, sizes in bytes.
func (c Config) ShowTree() map[string]any { return showTree(reflect.ValueOf(c)) }

func showTree(v reflect.Value) map[string]any {
	tree := map[string]any{}
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("yaml")
		field := v.Field(i)
		switch value := field.Interface().(type) {
		case []PoolConfig:
			pools := []any{}
			for j := range value {
				pools = append(pools, showTree(field.Index(j)))
			}
			tree[name] = pools
		case []string:
			tree[name] = append([]string{}, value...)
		case string, bool, int, Size, map[string]string:
			tree[name] = value
		default:
			if field.Kind() == reflect.Struct {
				tree[name] = showTree(field)
			} else {
				tree[name] = yamlScalar(field)
			}
		}
	}
	return tree
}
