package ipc

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// guardGolden describes one file of testdata/guard.
type guardGolden struct {
	Version int    `json:"version"`
	Kind    int    `json:"kind"`
	Name    string `json:"name"`
	Flags   uint16 `json:"flags"`
	PID     uint32 `json:"pid"`
	Seq     uint64 `json:"seq"`
	Value   int64  `json:"value"`
	Text    string `json:"text"`
	// Error is null for a good message, else the code of the protocol error.
	Error *string `json:"error"`
	file  string
	bytes []byte
}

func goodGuards() []guardGolden {
	g := func(file string, m GuardMessage) guardGolden {
		return guardGolden{Version: GuardVersion, Kind: int(m.Kind), Name: m.Kind.String(), Flags: m.Flags, PID: m.PID,
			Seq: m.Seq, Value: m.Value, Text: m.Text, file: file, bytes: m.Append(nil)}
	}
	return []guardGolden{
		g("hello", GuardMessage{Kind: GuardHello, Seq: 1, Value: 3_000_000, Text: "0.1.0 0123456789abcdef"}),
		g("guard-launcher", GuardMessage{Kind: GuardGuard, Flags: uint16(RoleLauncher), PID: 4711, Seq: 2, Text: "default.1"}),
		g("guard-keeper", GuardMessage{Kind: GuardGuard, Flags: uint16(RoleKeeper), PID: 4712, Seq: 3, Text: "default-0.1"}),
		g("guard-worker", GuardMessage{Kind: GuardGuard, Flags: uint16(RoleWorker), PID: 1<<22 - 1, Seq: 1<<64 - 1, Text: "pool-ü.1"}),
		g("release", GuardMessage{Kind: GuardRelease, PID: 4712, Seq: 5}),
		g("pool", GuardMessage{Kind: GuardPool, Seq: 6, Value: 500_000, Text: "default"}),
		g("pool-longest", GuardMessage{Kind: GuardPool, Seq: 7, Value: MaxGuardMicros, Text: strings.Repeat("p", MaxGuardText)}),
		g("beat", GuardMessage{Kind: GuardBeat, Seq: 8, Value: 3}),
		g("beat-draining", GuardMessage{Kind: GuardBeat, Flags: BeatDraining, Seq: 9, Value: 2}),
		g("notify", GuardMessage{Kind: GuardNotify, Seq: 10, Text: "READY=1\nSTATUS=2 pools, 8 workers"}),
		g("stopping", GuardMessage{Kind: GuardStopping, Seq: 11, Value: 33_000_000}),
		g("bye", GuardMessage{Kind: GuardBye, Seq: 12, Value: 75}),
		g("welcome", GuardMessage{Kind: GuardWelcome, PID: 4000, Seq: 1, Text: "0.1.0"}),
		g("ack", GuardMessage{Kind: GuardAck, Seq: 2}),
		g("nack", GuardMessage{Kind: GuardNack, Seq: 3, Value: 24, Text: "packet arrived without all of its descriptors"}),
	}
}

func badGuards() []guardGolden {
	guard := GuardMessage{Kind: GuardGuard, Flags: 2, PID: 4711, Seq: 2, Text: "k"}.Append(nil)
	beat := GuardMessage{Kind: GuardBeat, Seq: 8}.Append(nil)
	bye := GuardMessage{Kind: GuardBye, Seq: 8}.Append(nil)
	pool := GuardMessage{Kind: GuardPool, Seq: 6, Text: "default"}.Append(nil)
	g := func(file, code string, from []byte, change func([]byte) []byte) guardGolden {
		w := guardGolden{Error: text(code), file: "bad-" + file, bytes: change(bytes.Clone(from))}
		w.Version = int(w.bytes[0])
		if len(w.bytes) >= 16 {
			w.Kind, w.Name = int(w.bytes[1]), GuardKind(w.bytes[1]).String()
			w.Seq = uint64(w.bytes[15])
		}
		return w
	}
	set := func(at int, v ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[at:], v); return b }
	}
	add := func(v ...byte) func([]byte) []byte { return func(b []byte) []byte { return append(b, v...) } }
	return []guardGolden{
		g("version", "version", guard, set(0, 2)),
		g("kind", "kind", guard, set(1, 9)),
		g("kind-zero", "kind", guard, set(1, 0)),
		g("flags-none", "flags", guard, set(2, 0, 0)),
		g("flags-role", "flags", guard, set(2, 0, 4)),
		g("flags-beat", "flags", beat, set(2, 0, 2)),
		g("pid-zero", "pid", guard, set(4, 0, 0, 0, 0)),
		g("pid-negative", "pid", guard, set(4, 0x80, 0, 0, 0)),
		g("value-negative", "value", pool, set(16, 0xff)),
		g("value-too-long", "value", pool, set(16, 0x7f)),
		g("value-exit", "value", bye, set(22, 1, 0)),
		g("value-where-none", "value", guard, set(23, 1)),
		g("text-where-none", "text", beat, add('x')),
		g("text-not-utf8", "text", pool, add(0xff)),
		g("text-too-long", "text", pool, add(bytes.Repeat([]byte("x"), MaxGuardText)...)),
		g("cut", "cut", guard, func(b []byte) []byte { return b[:GuardHeaderSize-1] }),
		g("cut-before-sequence", "cut", guard, func(b []byte) []byte { return b[:15] }),
	}
}

func TestGoldenGuards(t *testing.T) {
	dir := filepath.Join("testdata", "guard")
	all := append(goodGuards(), badGuards()...)
	if *update {
		rewriteGuards(t, dir, all)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.bin"))
	if err != nil || len(files) != len(all) {
		t.Fatalf("%d golden files in %s, want %d (%v); run with -update and review the difference", len(files), dir, len(all), err)
	}
	for _, want := range all {
		t.Run(want.file, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join(dir, want.file+".bin"))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b, want.bytes) {
				t.Fatalf("bytes on disk\n%x\nencoded now\n%x", b, want.bytes)
			}
			got, err := DecodeGuard(b)
			if want.Error != nil {
				if code := errorCode(err); code != *want.Error {
					t.Fatalf("error %v has code %q, want %q", err, code, *want.Error)
				}
				if got.Seq != want.Seq || int(got.Kind) != want.Kind {
					t.Fatalf("refused message is %v %d, want %d %d", got.Kind, got.Seq, want.Kind, want.Seq)
				}
				return
			}
			m := GuardMessage{Kind: GuardKind(want.Kind), Flags: want.Flags, PID: want.PID, Seq: want.Seq, Value: want.Value, Text: want.Text}
			if err != nil || got != m {
				t.Fatalf("decoded %+v (%v), want %+v", got, err, m)
			}
		})
	}
}

func rewriteGuards(t *testing.T, dir string, all []guardGolden) {
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, g := range all {
		js, _ := json.MarshalIndent(g, "", "  ")
		for name, b := range map[string][]byte{g.file + ".bin": g.bytes, g.file + ".json": append(js, '\n')} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestGuardKinds(t *testing.T) {
	fds := map[GuardKind][]int{GuardGuard: {1}, GuardPool: {0, 2}}
	answered := []GuardKind{GuardHello, GuardGuard, GuardRelease, GuardPool, GuardBeat}
	back := []GuardKind{GuardWelcome, GuardAck, GuardNack}
	golden := map[GuardKind]bool{}
	for _, g := range goodGuards() {
		golden[GuardKind(g.Kind)] = true
	}
	if n := len(GuardKinds()); n != 11 {
		t.Errorf("%d kinds, PROTOCOL.md lists 11", n)
	}
	for _, k := range GuardKinds() {
		want := fds[k]
		if want == nil {
			want = []int{0}
		}
		if got := k.FDs(); !slices.Equal(got, want) {
			t.Errorf("%v may carry %v descriptors, want %v", k, got, want)
		}
		for n := 0; n <= MaxGuardFDs+1; n++ {
			if err := (GuardMessage{Kind: k}).CheckFDs(n); (err == nil) != slices.Contains(want, n) {
				t.Errorf("%v with %d descriptors: %v", k, n, err)
			} else if err != nil && errorCode(err) != "fds" {
				t.Errorf("%v with %d descriptors: code of %v", k, n, err)
			}
		}
		if k.Answered() != slices.Contains(answered, k) {
			t.Errorf("%v answered: %v", k, k.Answered())
		}
		if k.FromAgent() == slices.Contains(back, k) {
			t.Errorf("%v from the agent: %v", k, k.FromAgent())
		}
		if !golden[k] || strings.HasPrefix(k.String(), "KIND(") {
			t.Errorf("%v has no golden bytes or no name", k)
		}
	}
	if k := GuardKind(99); k.FDs() != nil || k.String() != "KIND(99)" || (GuardMessage{Kind: k}).CheckFDs(0) == nil {
		t.Errorf("unknown kind: %v %v", k, k.FDs())
	}
}

func TestGuardTextIsCutAtACharacter(t *testing.T) {
	for _, s := range []string{strings.Repeat("x", MaxGuardText+1), strings.Repeat("é", MaxGuardText), "a" + strings.Repeat("é", MaxGuardText)} {
		b := GuardMessage{Kind: GuardNotify, Text: s}.Append(nil)
		got, err := DecodeGuard(b)
		if err != nil || !strings.HasPrefix(s, got.Text) || len(got.Text) < MaxGuardText-utf8.UTFMax {
			t.Errorf("%.10q… of %d bytes: %d bytes back, %v", s, len(s), len(got.Text), err)
		}
	}
}

func TestDecodeGuardErrorsAreTyped(t *testing.T) {
	var protocol *ProtocolError
	if _, err := DecodeGuard(nil); !errors.As(err, &protocol) {
		t.Fatalf("empty message: %v", err)
	}
}
