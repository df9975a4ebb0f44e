package agent

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// DefaultsYAML is a commented configuration with every key and its default, generated from the struct. Its pool is an
// example: an agent without a configuration has none.
func DefaultsYAML() string {
	cfg := Default()
	pool := DefaultPool()
	pool.Name, pool.Adapter = "default", "tools.py"
	cfg.Pools = []PoolConfig{pool}
	var b strings.Builder
	writeYAML(&b, reflect.ValueOf(cfg), "")
	return b.String()
}

func writeYAML(b *strings.Builder, v reflect.Value, indent string) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		fmt.Fprintf(b, "%s# %s\n%s%s:", indent, field.Tag.Get("doc"), indent, field.Tag.Get("yaml"))
		value := v.Field(i)
		switch {
		case value.Kind() == reflect.Struct:
			b.WriteByte('\n')
			writeYAML(b, value, indent+"  ")
		case value.Kind() == reflect.Slice && value.Type().Elem().Kind() == reflect.Struct:
			b.WriteByte('\n')
			for j := range value.Len() {
				var item strings.Builder
				writeYAML(&item, value.Index(j), indent+"    ")
				b.WriteString(indent + "  -\n" + item.String())
			}
		default:
			b.WriteString(" " + yamlScalar(value) + "\n")
		}
	}
}

func yamlScalar(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case time.Duration:
		return value.String()
	case Share:
		return fmt.Sprintf("%g%%", 100*float64(value))
	case Size:
		if value != 0 && value%(1<<20) == 0 {
			return fmt.Sprintf("%dMiB", value>>20)
		}
		return fmt.Sprint(int64(value))
	case string:
		if value == "" {
			return `""`
		}
		return value
	case []string:
		return "[" + strings.Join(value, ", ") + "]"
	case map[string]string:
		return "{}"
	}
	return fmt.Sprint(v.Interface())
}
