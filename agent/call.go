package agent

import (
	"encoding/json"
	"time"
)

// Value is a call's arguments or its result: one JSON text, and the binary parts that it references by
// {"$part": i}. The agent never parses user values; it hands the text through.
type Value struct {
	JSON  []byte
	Parts [][]byte
}

// size is the bytes that limits.payload bounds.
func (v *Value) size() int {
	n := len(v.JSON)
	for _, p := range v.Parts {
		n += len(p) + 4
	}
	return n
}

// Request is one call as a client asks for it.
type Request struct {
	// Pool may be empty: then the tool's name decides ("pool/tool", the only pool, or the pool named "default").
	Pool string
	Tool string
	// Args is a JSON object; empty means {}.
	Args Value
	// Timeout is the whole budget of the call, queue included; 0 means the pool's timeouts.call (or .stream).
	Timeout time.Duration
}

// Tool is one callable of an adapter, as the worker described it when it became ready.
type Tool struct {
	Pool   string          `json:"pool"`
	Name   string          `json:"name"`
	Doc    string          `json:"doc"`
	Stream bool            `json:"stream"`
	Params []ToolParam     `json:"params"`
	Schema json.RawMessage `json:"schema"`
}

// ToolParam is one parameter of a tool.
type ToolParam struct {
	Name     string          `json:"name"`
	Required bool            `json:"required"`
	Type     string          `json:"type"`
	Default  json.RawMessage `json:"default,omitempty"`
}

// Pong is the answer of one worker to an explicit ping.
type Pong struct {
	Worker  string        `json:"worker"`
	PID     int           `json:"pid"`
	RTT     time.Duration `json:"rtt_ns"`
	Calls   []uint64      `json:"calls"` // ids in flight
	Verdict string        `json:"verdict"`
}

// Result is the good end of one call.
type Result struct {
	Value
	// Call is the id that names the call in logs and errors; Worker the one that ran it.
	Call   uint64
	Worker string
}
