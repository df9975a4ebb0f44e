package ipc

import "strconv"

// FrameType names what a frame on a data or control socket means. PROTOCOL.md §1 is the table behind it.
type FrameType uint8

// The frame types of version 1.
const (
	Request FrameType = 1
	Chunk   FrameType = 2
	Result  FrameType = 3
	Error   FrameType = 4

	Ping   FrameType = 16
	Pong   FrameType = 17
	Cancel FrameType = 18
	Credit FrameType = 19
	Drain  FrameType = 20
	Go     FrameType = 21
	Ready  FrameType = 22
	Failed FrameType = 23
	Doing  FrameType = 24
)

// Socket is the place of a frame: a type that does not belong there is a protocol error.
type Socket uint8

// The two sockets of a worker.
const (
	Data    Socket = 1
	Control Socket = 2
)

// frameKind is one row of the table of types.
type frameKind struct {
	name   string
	socket Socket
	json   bool // carries a json text
	parts  bool // may carry parts
}

func (t FrameType) kind() (frameKind, bool) {
	switch t {
	case Request:
		return frameKind{"REQUEST", Data, true, true}, true
	case Chunk:
		return frameKind{"CHUNK", Data, true, true}, true
	case Result:
		return frameKind{"RESULT", Data, true, true}, true
	case Error:
		return frameKind{"ERROR", Data, true, false}, true
	case Ping:
		return frameKind{"PING", Control, false, false}, true
	case Pong:
		return frameKind{"PONG", Control, true, false}, true
	case Cancel:
		return frameKind{"CANCEL", Control, false, false}, true
	case Credit:
		return frameKind{"CREDIT", Control, true, false}, true
	case Drain:
		return frameKind{"DRAIN", Control, false, false}, true
	case Go:
		return frameKind{"GO", Control, true, false}, true
	case Ready:
		return frameKind{"READY", Control, true, false}, true
	case Failed:
		return frameKind{"FAILED", Control, true, false}, true
	case Doing:
		return frameKind{"DOING", Control, true, false}, true
	}
	return frameKind{}, false
}

// String is the name in PROTOCOL.md, or the number of an unknown type.
func (t FrameType) String() string {
	if k, ok := t.kind(); ok {
		return k.name
	}
	return "TYPE(" + strconv.Itoa(int(t)) + ")"
}

// FrameTypes lists every type of version 1, in the order of their numbers.
func FrameTypes() []FrameType {
	var all []FrameType
	for n := 0; n < 256; n++ {
		if _, ok := FrameType(n).kind(); ok {
			all = append(all, FrameType(n))
		}
	}
	return all
}
