package ipc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// FuzzDecodeGuard: any bytes give a message that encodes to the same bytes, or one *ProtocolError that still names the
// sequence; never a panic.
func FuzzDecodeGuard(f *testing.F) {
	for _, g := range append(goodGuards(), badGuards()...) {
		f.Add(g.bytes)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeGuard(b)
		if err != nil {
			var protocol *ProtocolError
			if !errors.As(err, &protocol) || protocol.Code == "" {
				t.Fatalf("untyped error %v", err)
			}
			if len(b) >= 16 && m.Seq != binary.BigEndian.Uint64(b[8:]) {
				t.Fatalf("refusal of %x lost its sequence", b)
			}
			return
		}
		if again := m.Append(nil); !bytes.Equal(again, b) {
			t.Fatalf("%x decodes to %+v, which encodes to %x", b, m, again)
		}
	})
}
