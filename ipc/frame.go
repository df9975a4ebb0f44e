package ipc

import (
	"bufio"
	"encoding/binary"
	"io"
	"math"
)

const (
	// FrameVersion is the first byte of every frame.
	FrameVersion = 1
	// HeaderSize is the fixed size of a frame's header in bytes.
	HeaderSize = 24
	// MaxParts is the most binary parts that one frame may carry.
	MaxParts = 1024
	// MaxControlJSON is the largest json text on a control socket, in bytes.
	MaxControlJSON = 1 << 20
	// DefaultPayloadLimit is the largest json text plus parts section on a data socket, in bytes, unless a pool says otherwise.
	DefaultPayloadLimit = 128 << 20
	// MaxPayloadLimit is the largest limit that the header's 32-bit lengths can express.
	MaxPayloadLimit = math.MaxUint32 - 4*MaxParts

	// wholeFrame is the size up to which a frame is written with one system call from one buffer; larger parts are
	// written from where they lie, so that a 100 MB part is not copied first.
	wholeFrame = 64 << 10
	// keepBuffer is the most memory that a writer keeps between two frames.
	keepBuffer = 4 << 10
)

// Frame is one message on a data or control socket.
type Frame struct {
	Type FrameType
	Call uint64 // call id, or the stamp of a ping
	JSON []byte
	// Parts are the binary parts, referenced from the JSON by index.
	Parts [][]byte
}

// Size is the number of bytes of the frame's json text and parts section: what the payload limit bounds.
func (f *Frame) Size() int {
	n := len(f.JSON) + 4*len(f.Parts)
	for _, p := range f.Parts {
		n += len(p)
	}
	return n
}

// appendHead appends the header, the json text and the parts' lengths: everything but the parts' bytes.
func appendHead(dst []byte, f *Frame) []byte {
	section := f.Size() - len(f.JSON)
	dst = append(dst, FrameVersion, byte(f.Type), 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(f.JSON)))
	dst = binary.BigEndian.AppendUint64(dst, f.Call)
	dst = binary.BigEndian.AppendUint32(dst, uint32(section))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(f.Parts)))
	dst = append(dst, 0, 0)
	dst = append(dst, f.JSON...)
	for _, p := range f.Parts {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(p)))
	}
	return dst
}

// AppendFrame appends the bytes of f to dst. The caller has checked the size against the limit of the link
// (see CheckFrame); lengths that do not fit the header would be cut.
func AppendFrame(dst []byte, f *Frame) []byte {
	dst = appendHead(dst, f)
	for _, p := range f.Parts {
		dst = append(dst, p...)
	}
	return dst
}

// CheckFrame reports whether f may be sent on a link with this payload limit: *TooLargeError or *ProtocolError if not.
func CheckFrame(f *Frame, limit int) error {
	if len(f.Parts) > MaxParts {
		return &TooLargeError{What: "part count", Size: uint64(len(f.Parts)), Limit: MaxParts}
	}
	if n := f.Size(); n > limit {
		return &TooLargeError{What: "payload", Size: uint64(n), Limit: uint64(limit)}
	}
	if _, ok := f.Type.kind(); !ok {
		return &ProtocolError{Code: "type", Detail: "unknown frame type " + f.Type.String()}
	}
	return nil
}

// FrameWriter writes frames to one socket. It is not safe for concurrent use: the owner of the link serialises.
type FrameWriter struct {
	w   io.Writer
	buf []byte
}

// NewFrameWriter returns a writer of frames to w.
func NewFrameWriter(w io.Writer) *FrameWriter { return &FrameWriter{w: w} }

// Write sends one frame. The error is the socket's; after one the link is broken, as part of the frame may be out.
func (fw *FrameWriter) Write(f *Frame) error {
	if HeaderSize+f.Size() <= wholeFrame {
		b := AppendFrame(fw.buf[:0], f)
		if cap(b) <= keepBuffer {
			fw.buf = b
		}
		_, err := fw.w.Write(b)
		return err
	}
	head := appendHead(nil, f)
	if _, err := fw.w.Write(head); err != nil {
		return err
	}
	for _, p := range f.Parts {
		if _, err := fw.w.Write(p); err != nil {
			return err
		}
	}
	return nil
}

// FrameReader reads frames from one socket. It is owned by one goroutine.
type FrameReader struct {
	r      *bufio.Reader
	socket Socket
	limit  int
	head   [HeaderSize]byte
}

// NewFrameReader returns a reader of the frames that belong on this socket; limit bounds json text plus parts section in
// bytes (on a control socket MaxControlJSON rules if it is smaller).
func NewFrameReader(r io.Reader, socket Socket, limit int) *FrameReader {
	if socket == Control && limit > MaxControlJSON {
		limit = MaxControlJSON
	}
	// A body larger than the buffer is read straight into its own memory, so the buffer only has to hold small frames;
	// there is one per socket of every worker.
	size := 8 << 10
	if socket == Control {
		size = 512
	}
	return &FrameReader{r: bufio.NewReaderSize(r, size), socket: socket, limit: limit}
}

// Next returns the next frame; its slices are the caller's to keep. It returns io.EOF at the end between two frames,
// io.ErrUnexpectedEOF inside one, *ProtocolError or *TooLargeError for a frame that may not be, and otherwise the
// socket's error. After any error the link must be closed: there is no way to find the next frame.
func (fr *FrameReader) Next() (*Frame, error) {
	if _, err := io.ReadFull(fr.r, fr.head[:]); err != nil {
		return nil, err
	}
	h, err := parseHeader(fr.head[:], fr.socket, fr.limit)
	if err != nil {
		return nil, err
	}
	f := &Frame{Type: h.typ, Call: h.call}
	if h.json == 0 && h.section == 0 {
		return f, nil
	}
	body := make([]byte, h.json+h.section)
	if _, err := io.ReadFull(fr.r, body); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	f.JSON = body[:h.json:h.json]
	f.Parts, err = splitParts(body[h.json:], h.parts)
	return f, err
}

type header struct {
	typ     FrameType
	call    uint64
	json    int
	section int
	parts   int
}

func parseHeader(b []byte, socket Socket, limit int) (header, error) {
	if b[0] != FrameVersion {
		return header{}, protocolError("version", "frame version", uint64(b[0]))
	}
	typ := FrameType(b[1])
	kind, known := typ.kind()
	if !known {
		return header{}, protocolError("type", "unknown frame type", uint64(b[1]))
	}
	if kind.socket != socket {
		return header{}, &ProtocolError{Code: "socket", Detail: typ.String() + " does not belong on this socket"}
	}
	if flags := binary.BigEndian.Uint16(b[2:]); flags != 0 {
		return header{}, protocolError("flags", typ.String()+" with undefined flags", uint64(flags))
	}
	if binary.BigEndian.Uint16(b[22:]) != 0 {
		return header{}, &ProtocolError{Code: "reserved", Detail: typ.String() + " with reserved bytes set"}
	}
	json, section := binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[16:])
	parts := int(binary.BigEndian.Uint16(b[20:]))
	switch {
	case !kind.json && json != 0:
		return header{}, protocolError("json", typ.String()+" with a json text, bytes", uint64(json))
	case kind.json && json == 0:
		return header{}, &ProtocolError{Code: "json", Detail: typ.String() + " without a json text"}
	case !kind.parts && parts != 0:
		return header{}, protocolError("parts", typ.String()+" with parts", uint64(parts))
	case parts > MaxParts:
		return header{}, &TooLargeError{What: "part count", Size: uint64(parts), Limit: MaxParts}
	case uint64(json)+uint64(section) > uint64(limit):
		return header{}, &TooLargeError{What: typ.String() + " payload", Size: uint64(json) + uint64(section), Limit: uint64(limit)}
	case int(section) < 4*parts || (parts == 0 && section != 0):
		return header{}, protocolError("parts", typ.String()+" with a parts section of bytes", uint64(section))
	}
	return header{typ: typ, call: binary.BigEndian.Uint64(b[8:]), json: int(json), section: int(section), parts: parts}, nil
}

func splitParts(section []byte, n int) ([][]byte, error) {
	if n == 0 {
		return nil, nil
	}
	parts := make([][]byte, n)
	rest := section[4*n:]
	for i := range parts {
		size := binary.BigEndian.Uint32(section[4*i:])
		if uint64(size) > uint64(len(rest)) {
			return nil, protocolError("parts", "part beyond its section, length", uint64(size))
		}
		parts[i], rest = rest[:size:size], rest[size:]
	}
	if len(rest) != 0 {
		return nil, protocolError("parts", "parts section with bytes of no part", uint64(len(rest)))
	}
	return parts, nil
}
