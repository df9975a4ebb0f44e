package ipc

import (
	"errors"
	"strconv"
)

// ErrWouldBlock is returned when a packet cannot be sent or received without waiting.
var ErrWouldBlock = errors.New("socket would block")

// ProtocolError is a frame or message that may not be. The connection that it came on must be closed.
type ProtocolError struct {
	// Code is the short name of the rule that was broken: version, type, socket, flags, reserved, json, parts, kind, text, fds.
	Code string
	// Detail says it in words, with the value that was seen.
	Detail string
}

func (e *ProtocolError) Error() string { return "protocol error: " + e.Detail }

func protocolError(code, detail string, value uint64) error {
	return &ProtocolError{Code: code, Detail: detail + " " + strconv.FormatUint(value, 10)}
}

// TooLargeError is a frame over a limit, refused before anything was allocated for it.
type TooLargeError struct {
	What  string
	Size  uint64
	Limit uint64
}

func (e *TooLargeError) Error() string {
	return e.What + " of " + strconv.FormatUint(e.Size, 10) + " bytes is over the limit of " + strconv.FormatUint(e.Limit, 10)
}
