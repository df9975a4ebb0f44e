package agent

import (
	"fmt"
	"reflect"
	"slices"
)

// OriginKind is the sort of source that a value came from.
type OriginKind string

// The sources, from the weakest to the strongest.
const (
	FromDefault  OriginKind = "default"
	FromFile     OriginKind = "file"
	FromVariable OriginKind = "variable"
)

// Origin is where one effective value came from.
type Origin struct {
	Kind     OriginKind `json:"kind"`
	File     string     `json:"file,omitempty"`
	Line     int        `json:"line,omitempty"`
	Column   int        `json:"column,omitempty"`
	Variable string     `json:"variable,omitempty"`
}

func (o Origin) String() string {
	switch o.Kind {
	case FromFile:
		return fmt.Sprintf("%s:%d", o.File, o.Line)
	case FromVariable:
		return "$" + o.Variable
	}
	return string(FromDefault)
}

// Origins holds the origin of every effective value by its key; pools go by name ("pools.default.workers"), each variable of
// a pool's env has its own key ("pools.default.env.TOKEN").
type Origins map[string]Origin

func (l *loading) origins() Origins {
	all := Origins{}
	var walk func(v reflect.Value, key, name string)
	walk = func(v reflect.Value, key, name string) {
		for i := range v.NumField() {
			field := v.Type().Field(i)
			key, name := joinKey(key, field.Tag.Get("yaml")), joinKey(name, field.Tag.Get("yaml"))
			switch value := v.Field(i).Interface().(type) {
			case []PoolConfig:
				for j, pool := range value {
					walk(v.Field(i).Index(j), fmt.Sprintf("%s[%d]", key, j), joinKey(name, pool.Name))
				}
			case map[string]string:
				for entry := range value {
					all[joinKey(name, entry)] = l.origin(joinKey(key, entry))
				}
			default:
				if field.Type.Kind() == reflect.Struct {
					walk(v.Field(i), key, name)
				} else {
					all[name] = l.origin(key)
				}
			}
		}
	}
	walk(reflect.ValueOf(l.cfg), "", "")
	return all
}

func (l *loading) origin(key string) Origin {
	if o, ok := l.set[key]; ok {
		return o
	}
	return Origin{Kind: FromDefault}
}

// Hidden is what stands for a value that may be a secret.
const Hidden = "***"

// WithoutSecrets is a copy of the configuration whose pools' env values are hidden.
func (c Config) WithoutSecrets() Config {
	c.Pools = slices.Clone(c.Pools)
	for i := range c.Pools {
		env := map[string]string{}
		for name := range c.Pools[i].Env {
			env[name] = Hidden
		}
		c.Pools[i].Env = env
	}
	return c
}
