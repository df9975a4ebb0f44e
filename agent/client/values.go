package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// Encode turns Go arguments into a value: bools, numbers, strings, []byte, slices, maps with string keys, structs with
// json tags, pointers and nil. A []byte becomes a binary part; NaN and infinities are kept.
func Encode(in any) (Value, error) {
	if in == nil {
		return Value{JSON: []byte("{}")}, nil
	}
	var v Value
	var b bytes.Buffer
	if err := v.encode(&b, reflect.ValueOf(in)); err != nil {
		return Value{}, err
	}
	v.JSON = b.Bytes()
	return v, nil
}

func (v *Value) encode(b *bytes.Buffer, in reflect.Value) error {
	switch in.Kind() {
	case reflect.Invalid:
		b.WriteString("null")
		return nil
	case reflect.Pointer, reflect.Interface:
		if in.IsNil() {
			b.WriteString("null")
			return nil
		}
		return v.encode(b, in.Elem())
	case reflect.Float32, reflect.Float64:
		return encodeFloat(b, in.Float())
	case reflect.Slice, reflect.Array:
		return v.encodeList(b, in)
	case reflect.Map:
		return v.encodeMap(b, in)
	case reflect.Struct:
		return v.encodeStruct(b, in)
	}
	text, err := json.Marshal(in.Interface())
	if err != nil {
		return err
	}
	b.Write(text)
	return nil
}

func encodeFloat(b *bytes.Buffer, f float64) error {
	switch {
	case math.IsNaN(f):
		b.WriteString(`{"$float":"nan"}`)
	case math.IsInf(f, 1):
		b.WriteString(`{"$float":"inf"}`)
	case math.IsInf(f, -1):
		b.WriteString(`{"$float":"-inf"}`)
	default:
		text := strconv.FormatFloat(f, 'g', -1, 64)
		if !strings.ContainsAny(text, ".e") {
			text += ".0" // a float stays a float in Python
		}
		b.WriteString(text)
	}
	return nil
}

func (v *Value) encodeList(b *bytes.Buffer, in reflect.Value) error {
	if raw, ok := in.Interface().(json.RawMessage); ok {
		b.Write(raw)
		return nil
	}
	if in.Type().Elem().Kind() == reflect.Uint8 && in.Kind() == reflect.Slice {
		fmt.Fprintf(b, `{"$part":%d}`, len(v.Parts))
		v.Parts = append(v.Parts, in.Bytes())
		return nil
	}
	b.WriteByte('[')
	for i := range in.Len() {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := v.encode(b, in.Index(i)); err != nil {
			return err
		}
	}
	b.WriteByte(']')
	return nil
}

func (v *Value) encodeMap(b *bytes.Buffer, in reflect.Value) error {
	if in.Type().Key().Kind() != reflect.String {
		return fmt.Errorf("a map with keys of type %s; keys must be strings", in.Type().Key())
	}
	escape := in.Len() == 1 && strings.HasPrefix(in.MapKeys()[0].String(), "$")
	if escape {
		b.WriteString(`{"$dict":`)
	}
	b.WriteByte('{')
	for i, key := range in.MapKeys() {
		if err := v.encodeField(b, i, key.String(), in.MapIndex(key)); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	if escape {
		b.WriteByte('}')
	}
	return nil
}

func (v *Value) encodeField(b *bytes.Buffer, i int, name string, value reflect.Value) error {
	if i > 0 {
		b.WriteByte(',')
	}
	text, err := json.Marshal(name)
	if err != nil {
		return err
	}
	b.Write(text)
	b.WriteByte(':')
	return v.encode(b, value)
}

func (v *Value) encodeStruct(b *bytes.Buffer, in reflect.Value) error {
	b.WriteByte('{')
	n := 0
	for i := range in.NumField() {
		field := in.Type().Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if !field.IsExported() || name == "-" || (strings.Contains(options, "omitempty") && in.Field(i).IsZero()) {
			continue
		}
		if name == "" {
			name = field.Name
		}
		if err := v.encodeField(b, n, name, in.Field(i)); err != nil {
			return err
		}
		n++
	}
	b.WriteByte('}')
	return nil
}

// Decode puts a value into out, a pointer. A single binary result goes into a *[]byte; inside other values bytes appear as
// the string that encoding/json expects for []byte.
func Decode(v Value, out any) error {
	if target, ok := out.(*[]byte); ok && len(v.Parts) == 1 && string(v.JSON) == `{"$part":0}` {
		*target = v.Parts[0]
		return nil
	}
	if len(v.Parts) == 0 && !bytes.Contains(v.JSON, []byte(`"$`)) {
		return json.Unmarshal(v.JSON, out)
	}
	var tree any
	decoder := json.NewDecoder(bytes.NewReader(v.JSON))
	decoder.UseNumber()
	if err := decoder.Decode(&tree); err != nil {
		return err
	}
	text, err := json.Marshal(resolve(tree, v.Parts))
	if err != nil {
		return err
	}
	return json.Unmarshal(text, out)
}

// resolve replaces references. NaN and infinities become their names, as JSON has no number for them.
func resolve(tree any, parts [][]byte) any {
	switch t := tree.(type) {
	case []any:
		for i := range t {
			t[i] = resolve(t[i], parts)
		}
	case map[string]any:
		if len(t) == 1 {
			for key, content := range t {
				if inner, ok := content.(map[string]any); ok && key == "$dict" {
					for k := range inner {
						inner[k] = resolve(inner[k], parts)
					}
					return inner
				}
				if i, ok := content.(json.Number); ok && key == "$part" {
					if n, err := strconv.Atoi(i.String()); err == nil && n >= 0 && n < len(parts) {
						return parts[n]
					}
				}
				if key == "$float" {
					return content
				}
			}
		}
		for key := range t {
			t[key] = resolve(t[key], parts)
		}
	}
	return tree
}
