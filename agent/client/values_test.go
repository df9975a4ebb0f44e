package client_test

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/pitboss-run/pitboss/agent/client"
)

func TestEncode(t *testing.T) {
	type inner struct {
		Plain  int
		Tagged []byte  `json:"tagged"`
		Empty  string  `json:"empty,omitempty"`
		Never  string  `json:"-"`
		hidden float64 // must not go out
	}
	var nobody *inner
	for _, c := range []struct {
		in    any
		want  string
		parts int
	}{
		{nil, "{}", 0},
		{map[string]any{"a": nil}, `{"a":null}`, 0},
		{[]any{nil, nobody, true, "x", 7, 2.0, json.RawMessage(`{"$part":9}`)}, `[null,null,true,"x",7,2.0,{"$part":9}]`, 0},
		{[]float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e300, 0.5}, `[{"$float":"nan"},{"$float":"inf"},{"$float":"-inf"},1e+300,0.5]`, 0},
		{[2]uint8{1, 2}, `[1,2]`, 0}, // an array is a list, a slice of bytes is a part
		{[][]byte{{1}, {2}}, `[{"$part":0},{"$part":1}]`, 2},
		{inner{Plain: 1, Tagged: []byte("x"), Never: "x", hidden: 1}, `{"Plain":1,"tagged":{"$part":0}}`, 1},
		{&inner{Empty: "e"}, `{"Plain":0,"tagged":{"$part":0},"empty":"e"}`, 1},
		{map[string]int{"$part": 1}, `{"$dict":{"$part":1}}`, 0},
	} {
		got, err := client.Encode(c.in)
		if err != nil || string(got.JSON) != c.want || len(got.Parts) != c.parts {
			t.Errorf("%#v: %s, %d parts, %v; want %s, %d", c.in, got.JSON, len(got.Parts), err, c.want, c.parts)
		}
	}
}

// TestWhatHasNoJSON is refused however deep it is.
func TestWhatHasNoJSON(t *testing.T) {
	type holder struct{ F any }
	for _, in := range []any{make(chan int), []any{func() {}}, map[string]any{"f": func() {}}, holder{func() {}}, &holder{[]any{make(chan int)}}} {
		if v, err := client.Encode(in); err == nil || !strings.Contains(err.Error(), "unsupported type") {
			t.Errorf("%T: %s %v", in, v.JSON, err)
		}
	}
	if v, err := client.Encode(map[string]any{"m": map[int]int{1: 1}}); err == nil || err.Error() != "a map with keys of type int; keys must be strings" {
		t.Errorf("%s %v", v.JSON, err)
	}
}

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		text  string
		parts []string
		want  any
	}{
		{`[1,"x",null]`, nil, []any{1.0, "x", nil}},
		{`[{"$float":"nan"},{"a":{"$float":"-inf"}}]`, nil, []any{"nan", map[string]any{"a": "-inf"}}},
		{`{"a":{"$part":1},"b":[{"$part":0}]}`, []string{"x", "y"}, map[string]any{"a": "eQ==", "b": []any{"eA=="}}},
		{`{"$dict":{"$part":1}}`, nil, map[string]any{"$part": 1.0}},
		{`{"$dict":{"$dict":{"$part":0}}}`, []string{"x"}, map[string]any{"$dict": "eA=="}},
		// No reference: out of range, no number, not alone.
		{`[{"$part":1},{"$part":-1},{"$part":"0"},{"$part":0.5},{"$part":0,"b":1}]`, []string{"x"}, []any{map[string]any{"$part": 1.0},
			map[string]any{"$part": -1.0}, map[string]any{"$part": "0"}, map[string]any{"$part": 0.5}, map[string]any{"$part": 0.0, "b": 1.0}}},
	} {
		var v client.Value
		v.JSON = []byte(c.text)
		for _, part := range c.parts {
			v.Parts = append(v.Parts, []byte(part))
		}
		var got any
		if err := client.Decode(v, &got); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v %v, want %v", c.text, got, err, c.want)
		}
	}
	var list [][]byte
	if err := client.Decode(client.Value{JSON: []byte(`[{"$part":1},{"$part":0}]`), Parts: [][]byte{{1}, {2}}}, &list); err != nil ||
		!reflect.DeepEqual(list, [][]byte{{2}, {1}}) {
		t.Errorf("%v %v", list, err)
	}
	for text, out := range map[string]any{`{"$part":`: new(any), `[{"$part":0}]`: new(int), `"x"`: new(int)} {
		if err := client.Decode(client.Value{JSON: []byte(text), Parts: [][]byte{nil}}, out); err == nil {
			t.Errorf("%s fits into %T", text, out)
		}
	}
}

// TestArgumentsThatCannotGoOut never reach the agent, and a result that does not fit is an error of this side.
func TestArgumentsThatCannotGoOut(t *testing.T) {
	c, err := client.New("nobody-is-here")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const want = `cannot encode the arguments of "t": json: unsupported type: chan int`
	if _, err := client.Call[any](t.Context(), c, "t", make(chan int)); err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
	n := 0
	for _, err := range client.Stream[any](t.Context(), c, "t", make(chan int)) {
		if n++; err == nil || err.Error() != want {
			t.Errorf("%v", err)
		}
	}
	if n != 1 {
		t.Errorf("%d times", n)
	}
}
