package agent

import (
	"bytes"
	"testing"

	pb "github.com/pitboss-run/pitboss/proto/pitboss/v1"
	"google.golang.org/protobuf/proto"
)

// TestLargePartsAreNotCopied, and what is sent means the same as with protobuf's own encoder.
func TestLargePartsAreNotCopied(t *testing.T) {
	c := newPartsCodec()
	large, small := bytes.Repeat([]byte("x"), largePart), []byte("small")
	for name, parts := range map[string][][]byte{
		"none": nil, "small": {small}, "large": {large}, "mixed": {small, large, {}, large[:100], large},
	} {
		for _, m := range []proto.Message{
			&pb.CallResponse{Json: `{"a":1}`, Parts: parts, CallId: 7, Worker: "default-0"}, &pb.CallResponse{Parts: parts},
			&pb.CallStreamResponse{Json: `[]`, Parts: parts, CallId: 7, Result: true, Worker: "w"},
		} {
			want := proto.Clone(m)
			out, err := c.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(m, want) {
				t.Errorf("%s: the message was changed", name)
			}
			shared := false
			for _, b := range out {
				shared = shared || len(b.ReadOnlyData()) == len(large) && &b.ReadOnlyData()[0] == &large[0]
			}
			if shared != (name == "large" || name == "mixed") {
				t.Errorf("%s: shared: %t", name, shared)
			}
			got := m.ProtoReflect().New().Interface()
			if err := proto.Unmarshal(out.Materialize(), got); err != nil || !proto.Equal(got, want) {
				t.Errorf("%s: %v", name, err)
			}
			out.Free()
		}
	}
}
