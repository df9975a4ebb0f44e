package agent

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// DefaultsYAML is a commented configuration with every key and its default, generated from the struct. Its pool is an
// example: an agent without a configuration has none.
func DefaultsYAML() string {
	cfg := Default()
	pool := DefaultPool()
	pool.Name, pool.Adapter = "default", "tools.py"
	return commented(cfg, pool)
}

func commented(cfg Config, pool PoolConfig) string {
	cfg.Pools = []PoolConfig{pool}
	var b strings.Builder
	writeYAML(&b, reflect.ValueOf(cfg), "")
	return b.String()
}

func writeYAML(b *strings.Builder, v reflect.Value, indent string) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		doc := field.Tag.Get("doc")
		if text := rangeText(field); text != "" && field.Tag.Get("oneof") == "" {
			doc += " (" + text + ")"
		}
		if text := field.Tag.Get("default"); text != "" {
			doc += "; default: " + text
		}
		fmt.Fprintf(b, "%s# %s\n%s%s:", indent, doc, indent, field.Tag.Get("yaml"))
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

// plain is a text that needs no quotes in YAML.
var plain = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./-]*$`)

func yamlText(text string) string {
	if plain.MatchString(text) && !strings.EqualFold(text, "null") {
		return text
	}
	return strconv.Quote(text) // Go's escapes are a part of those of YAML
}

func yamlScalar(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case time.Duration:
		return durationText(value)
	case Share:
		return fmt.Sprintf("%g%%", 100*float64(value))
	case Size:
		if value != 0 && value%(1<<30) == 0 {
			return fmt.Sprintf("%dGiB", value>>30)
		}
		if value != 0 && value%(1<<20) == 0 {
			return fmt.Sprintf("%dMiB", value>>20)
		}
		return fmt.Sprint(int64(value))
	case string:
		return yamlText(value)
	case []string:
		var items []string
		for _, item := range value {
			items = append(items, yamlText(item))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case map[string]string:
		return "{}"
	}
	return fmt.Sprint(v.Interface())
}
