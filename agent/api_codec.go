package agent

import (
	pb "github.com/pitboss-run/pitboss/proto/pitboss/v1"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec that is wrapped
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// largePart is the smallest binary part that is sent from where it lies, in bytes. To copy less costs less than a buffer more.
const largePart = 32 << 10

// partsCodec is gRPC's codec for protobuf, but for the large binary parts of a result: these are not copied into the message.
// Copying tens of megabytes would keep a thread from everybody else's calls for milliseconds.
type partsCodec struct{ encoding.CodecV2 }

func newPartsCodec() partsCodec { return partsCodec{encoding.GetCodecV2("proto")} }

// Marshal returns the message's bytes; v is ours alone, and its parts are not written to after.
func (c partsCodec) Marshal(v any) (mem.BufferSlice, error) {
	switch m := v.(type) {
	case *pb.CallResponse:
		return c.apart(m, &m.Parts, 2)
	case *pb.CallStreamResponse:
		return c.apart(m, &m.Parts, 2)
	}
	return c.CodecV2.Marshal(v)
}

// apart encodes the parts, which have the given field number, behind the rest of their message: the order of fields is free
// (protobuf.dev/programming-guides/encoding, "Field Order").
func (c partsCodec) apart(message any, field *[][]byte, number protowire.Number) (mem.BufferSlice, error) {
	parts := *field
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	if size < largePart {
		return c.CodecV2.Marshal(message)
	}
	*field = nil
	out, err := c.CodecV2.Marshal(message)
	*field = parts
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		head := protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.BytesType), uint64(len(p)))
		out = append(out, mem.SliceBuffer(head))
		if len(p) > 0 {
			out = append(out, mem.SliceBuffer(p))
		}
	}
	return out, nil
}
