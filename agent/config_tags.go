package agent

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// tags checks every scalar of a struct against its own tags. Lists of structs are for their own checker.
func (c *checker) tags(v reflect.Value, prefix string) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key := joinKey(prefix, field.Tag.Get("yaml"))
		if field.Type.Kind() == reflect.Struct {
			c.tags(v.Field(i), key)
			continue
		}
		c.choice(key, v.Field(i), field.Tag)
		c.bounds(key, v.Field(i), field.Tag)
	}
}

func (c *checker) choice(key string, v reflect.Value, tag reflect.StructTag) {
	allowed, bounded := tag.Lookup("oneof")
	if !bounded {
		return
	}
	if choices := strings.Split(allowed, "|"); !slices.Contains(choices, v.String()) {
		c.add(key, "%q is not known; it must be one of %q", v.String(), choices)
	}
}

func (c *checker) bounds(key string, v reflect.Value, tag reflect.StructTag) {
	low, bounded := tag.Lookup("min")
	if !bounded || (tag.Get("zero") != "" && v.IsZero()) {
		return
	}
	high := tag.Get("max")
	// A share that is not a number is in no range: asked this way round, it is refused.
	if number := numeric(v); !(number >= bound(v.Type(), low) && number <= bound(v.Type(), high)) {
		c.add(key, "%s is out of range; it must be between %s and %s", yamlScalar(v), low, high)
	}
}

// bound is a min or max tag as a number of the field's own unit. The tags are constants of this package, held by a test.
func bound(typ reflect.Type, text string) float64 {
	v := reflect.New(typ).Elem()
	if err := setScalar(v, text); err != nil {
		panic(fmt.Sprintf("tag of a %s: %v", typ, err))
	}
	return numeric(v)
}

func numeric(v reflect.Value) float64 {
	if v.CanInt() {
		return float64(v.Int())
	}
	return v.Float()
}

func (c *checker) has(key string) bool {
	return slices.ContainsFunc(c.faults, func(f Fault) bool { return f.Key == joinKey(c.key, key) })
}

// rangeText is what may stand in a field: "1 to 1000 workers", "fork or exec", "" for anything.
func rangeText(field reflect.StructField) string {
	tag := field.Tag
	if allowed, ok := tag.Lookup("oneof"); ok {
		choices := strings.Split(allowed, "|")
		for i, choice := range choices {
			if choice == "" {
				choices[i] = "empty"
			}
		}
		return strings.Join(choices, " or ")
	}
	low, ok := tag.Lookup("min")
	if !ok {
		return ""
	}
	text := low + " to " + tag.Get("max")
	if tag.Get("zero") != "" {
		text = "0, or " + text
	}
	if unit := tag.Get("unit"); field.Type.Kind() == reflect.Int {
		text += " " + unit
	}
	return text
}

// durationText is a duration as a user would write it: 2m, not 2m0s.
func durationText(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = text[:len(text)-2]
	}
	if strings.HasSuffix(text, "h0m") {
		text = text[:len(text)-2]
	}
	return text
}
