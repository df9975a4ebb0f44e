package ipc

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden bytes in testdata/frames")

// golden describes one file of testdata/frames; the Python tests read the same files.
type golden struct {
	Version int      `json:"version"`
	Socket  string   `json:"socket"`
	Type    int      `json:"type"`
	Flags   int      `json:"flags"`
	Call    uint64   `json:"call"`
	JSON    *string  `json:"json"`
	Parts   []string `json:"parts"`
	// Error is null for a good frame, else the code of the protocol error, "too_large" or "eof" (cut short).
	Error *string `json:"error"`
	name  string
	bytes []byte
}

func text(s string) *string { return &s }

func goodGoldens() []golden {
	g := func(name string, typ FrameType, call uint64, js *string, parts ...string) golden {
		kind, _ := typ.kind()
		socket := "data"
		if kind.socket == Control {
			socket = "control"
		}
		w := golden{name: name, Version: 1, Socket: socket, Type: int(typ), Call: call, JSON: js, Parts: []string{}}
		f := Frame{Type: typ, Call: call}
		if js != nil {
			f.JSON = []byte(*js)
		}
		for _, p := range parts {
			w.Parts = append(w.Parts, hex.EncodeToString([]byte(p)))
			f.Parts = append(f.Parts, []byte(p))
		}
		w.bytes = AppendFrame(nil, &f)
		return w
	}
	return []golden{
		g("request", Request, 1, text(`{"tool":"add","timeout_us":300000000,"args":{"a":1,"b":2}}`)),
		g("request-no-timeout", Request, 2, text(`{"tool":"add","args":{}}`)),
		g("request-parts", Request, 1<<40, text(`{"tool":"classify","args":{"image":{"$part":0},"mask":{"$part":1},"top_k":3}}`), "\xff\xd8\xff\x00jpeg", ""),
		g("chunk", Chunk, 7, text(`{"i":0}`)),
		g("chunk-part", Chunk, 7, text(`{"$part":0}`), "abc"),
		g("result-null", Result, 1, text(`null`)),
		g("result-utf8", Result, 3, text(`"grüße 🐍"`)),
		g("result-parts", Result, 1<<64-1, text(`[{"$part":0},{"$part":1}]`), "\x00", strings.Repeat("x", 300)),
		g("error", Error, 9, text(`{"reason":"TOOL_RAISED","type":"ValueError","message":"no","traceback":"Traceback …"}`)),
		g("ping", Ping, 123456789012345, nil),
		g("pong", Pong, 123456789012345, text(`{"calls":[9],"progress":4,"control_tid":77}`)),
		g("cancel", Cancel, 9, nil),
		g("credit", Credit, 7, text(`{"chunks":8,"bytes":65536}`)),
		g("drain", Drain, 0, nil),
		g("go", Go, 0, text(`{"adapter":"tools.py","workdir":"/srv","payload_limit":134217728,"pool":"default","worker":"default-0.1","index":0,"run_id":"0123456789abcdef","serialization":"strict"}`)),
		g("ready", Ready, 0, text(`{"tools":[{"name":"add","doc":"","stream":false,"params":[],"schema":{}}],"python":"3.11.7","pid":4711}`)),
		g("failed", Failed, 0, text(`{"reason":"ADAPTER_IMPORT","type":"ImportError","message":"no","traceback":""}`)),
		g("doing", Doing, 0, text(`{"doing":"importing my_app.tools"}`)),
	}
}

func badGoldens() []golden {
	request := AppendFrame(nil, &Frame{Type: Request, Call: 1, JSON: []byte(`{}`), Parts: [][]byte{[]byte("ab")}})
	ping := AppendFrame(nil, &Frame{Type: Ping, Call: 5})
	g := func(name, socket, code string, from []byte, change func([]byte) []byte) golden {
		b := change(bytes.Clone(from))
		return golden{name: "bad-" + name, Version: int(b[0]), Socket: socket, Parts: []string{}, Error: text(code), bytes: b}
	}
	set := func(at int, v ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[at:], v); return b }
	}
	return []golden{
		g("version", "data", "version", request, set(0, 2)),
		g("type", "data", "type", request, set(1, 99)),
		g("socket-data", "data", "socket", ping, set(0, 1)),
		g("socket-control", "control", "socket", request, set(0, 1)),
		g("flags", "data", "flags", request, set(2, 0x80)),
		g("reserved", "data", "reserved", request, set(23, 1)),
		g("no-json", "data", "json", request, set(4, 0, 0, 0, 0)),
		g("ping-json", "control", "json", ping, set(7, 3)),
		g("ping-parts", "control", "parts", ping, set(19, 4, 0, 1)),
		g("parts-short-section", "data", "parts", request, set(19, 3)),
		g("parts-none-but-section", "data", "parts", request, set(20, 0, 0)),
		g("part-beyond", "data", "parts", request, set(HeaderSize+2+3, 9)),
		g("part-rest", "data", "parts", request, set(HeaderSize+2+3, 1)),
		g("json-4gib", "data", "too_large", request, set(4, 0xff, 0xff, 0xff, 0xff)),
		g("section-4gib", "data", "too_large", request, set(16, 0xff, 0xff, 0xff, 0xff)),
		g("part-count", "data", "too_large", request, set(20, 0xff, 0xff)),
		g("control-json", "control", "too_large", AppendFrame(nil, &Frame{Type: Credit, JSON: []byte(`{}`)}), set(4, 0, 0x20, 0, 0)),
		g("cut-header", "data", "eof", request, func(b []byte) []byte { return b[:11] }),
		g("cut-body", "data", "eof", request, func(b []byte) []byte { return b[:len(b)-1] }),
	}
}

func TestGoldenFrames(t *testing.T) {
	dir := filepath.Join("testdata", "frames")
	all := append(goodGoldens(), badGoldens()...)
	if *update {
		rewriteGoldens(t, dir, all)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.bin"))
	if err != nil || len(files) != len(all) {
		t.Fatalf("%d golden files in %s, want %d (%v); run with -update and review the difference", len(files), dir, len(all), err)
	}
	for _, want := range all {
		t.Run(want.name, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join(dir, want.name+".bin"))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b, want.bytes) {
				t.Fatalf("bytes on disk\n%x\nencoded now\n%x", b, want.bytes)
			}
			checkGolden(t, b, want)
		})
	}
}

func rewriteGoldens(t *testing.T, dir string, all []golden) {
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, g := range all {
		js, _ := json.MarshalIndent(g, "", "  ")
		if err := os.WriteFile(filepath.Join(dir, g.name+".bin"), g.bytes, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, g.name+".json"), append(js, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func checkGolden(t *testing.T, b []byte, want golden) {
	socket := Data
	if want.Socket == "control" {
		socket = Control
	}
	got, err := NewFrameReader(bytes.NewReader(b), socket, DefaultPayloadLimit).Next()
	if want.Error != nil {
		if code := errorCode(err); code != *want.Error {
			t.Fatalf("error %v has code %q, want %q", err, code, *want.Error)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	js := ""
	if want.JSON != nil {
		js = *want.JSON
	}
	if int(got.Type) != want.Type || got.Call != want.Call || string(got.JSON) != js || len(got.Parts) != len(want.Parts) {
		t.Fatalf("decoded %v call %d json %q with %d parts, want %+v", got.Type, got.Call, got.JSON, len(got.Parts), want)
	}
	for i, p := range got.Parts {
		if hex.EncodeToString(p) != want.Parts[i] {
			t.Fatalf("part %d is %x, want %s", i, p, want.Parts[i])
		}
	}
}

func errorCode(err error) string {
	var protocol *ProtocolError
	var large *TooLargeError
	switch {
	case errors.As(err, &protocol):
		return protocol.Code
	case errors.As(err, &large):
		return "too_large"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "eof"
	}
	return ""
}

func TestEveryFrameTypeHasAGolden(t *testing.T) {
	seen := map[int]bool{}
	for _, g := range goodGoldens() {
		seen[g.Type] = true
	}
	for _, typ := range FrameTypes() {
		if !seen[int(typ)] {
			t.Errorf("no golden bytes for %v", typ)
		}
		if strings.HasPrefix(typ.String(), "TYPE(") {
			t.Errorf("type %d has no name", typ)
		}
	}
	if len(FrameTypes()) != 13 {
		t.Errorf("%d frame types, PROTOCOL.md lists 13", len(FrameTypes()))
	}
}

func TestEOFBetweenFramesIsClean(t *testing.T) {
	b := AppendFrame(nil, &Frame{Type: Drain})
	r := NewFrameReader(bytes.NewReader(b), Control, DefaultPayloadLimit)
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); err != io.EOF {
		t.Fatalf("got %v, want io.EOF", err)
	}
}

func TestLargeFrameIsWrittenWithoutCopy(t *testing.T) {
	part := bytes.Repeat([]byte{7}, 3<<20)
	var calls [][]byte
	w := NewFrameWriter(writerFunc(func(b []byte) (int, error) { calls = append(calls, b); return len(b), nil }))
	f := &Frame{Type: Result, Call: 1, JSON: []byte(`{"$part":0}`), Parts: [][]byte{part}}
	if err := w.Write(f); err != nil {
		t.Fatal(err)
	}
	if len(calls) != 2 || &calls[1][0] != &part[0] {
		t.Fatalf("%d writes, want the head and the part itself", len(calls))
	}
	if got := bytes.Join(calls, nil); !bytes.Equal(got, AppendFrame(nil, f)) {
		t.Fatal("pieces differ from the whole frame")
	}
}

func TestCheckFrame(t *testing.T) {
	f := func(n, parts int) *Frame {
		return &Frame{Type: Result, JSON: make([]byte, n), Parts: make([][]byte, parts)}
	}
	for _, c := range []struct {
		name  string
		frame *Frame
		ok    bool
	}{
		{"at the limit", f(100, 0), true}, {"one over", f(101, 0), false},
		{"lengths count", f(97, 1), false}, {"lengths fit", f(96, 1), true},
		{"unknown type", &Frame{Type: 200}, false},
	} {
		if err := CheckFrame(c.frame, 100); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	var large *TooLargeError
	if err := CheckFrame(f(1, MaxParts+1), 1<<20); !errors.As(err, &large) {
		t.Errorf("%d parts: %v", MaxParts+1, err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// FuzzFrameReader: any bytes give frames that encode to the same bytes, or one typed error; never a panic, never an
// allocation over the limit.
func FuzzFrameReader(f *testing.F) {
	for _, g := range append(goodGoldens(), badGoldens()...) {
		f.Add(g.bytes, g.Socket == "control")
	}
	f.Fuzz(func(t *testing.T, b []byte, control bool) {
		socket := Data
		if control {
			socket = Control
		}
		r := NewFrameReader(bytes.NewReader(b), socket, 1<<16)
		var again []byte
		for {
			frame, err := r.Next()
			if err != nil {
				if err != io.EOF && errorCode(err) == "" {
					t.Fatalf("untyped error %v", err)
				}
				break
			}
			again = AppendFrame(again, frame)
		}
		if !bytes.HasPrefix(b, again) {
			t.Fatalf("frames read from %x encode to %x", b, again)
		}
	})
}
