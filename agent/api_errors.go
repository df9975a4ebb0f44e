package agent

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	// errorDomain is the domain of every ErrorInfo.
	errorDomain = "pitboss"
	// maxDetails bounds the message, the traceback and the post-mortem in a status, in bytes each.
	maxDetails = 2 << 10
	// maxStatus bounds all of a status before base64, in bytes: it travels in HTTP/2 trailers, and stock clients may refuse
	// those over 8 KiB.
	maxStatus = (7<<10 + 256) * 3 / 4
	// leastTraceback is what a long message leaves of the traceback, in bytes; statusOverhead the names in a status.
	leastTraceback = 512
	statusOverhead = 256
	// maxStatusName bounds each name in a status, in bytes.
	maxStatusName = 256
)

// reasonCodes is the one table from reasons to gRPC codes.
var reasonCodes = map[Reason]codes.Code{
	BadArguments:     codes.InvalidArgument,
	UnknownTool:      codes.NotFound,
	UnknownPool:      codes.NotFound,
	UnknownWorker:    codes.NotFound,
	UnknownCall:      codes.NotFound,
	ToolRaised:       codes.Unknown,
	QueueFull:        codes.ResourceExhausted,
	PayloadTooLarge:  codes.ResourceExhausted,
	QueueTimeout:     codes.DeadlineExceeded,
	CallTimeout:      codes.DeadlineExceeded,
	CallCancelled:    codes.Canceled,
	CancelledByAdmin: codes.Canceled,
	WorkerDied:       codes.Aborted,
	PoolFailed:       codes.Unavailable,
	Draining:         codes.Unavailable,
	PermissionDenied: codes.PermissionDenied,
	Internal:         codes.Internal,
}

// statusOf turns an error of the core into a gRPC status with its details.
func statusOf(err error) error {
	var e *Error
	if !errors.As(err, &e) {
		e = failf(Internal, "%v", err)
	}
	info := &errdetails.ErrorInfo{Reason: string(e.Reason), Domain: errorDomain, Metadata: metadataOf(e)}
	details := []protoadapt.MessageV1{protoadapt.MessageV1Of(info)}
	message, room := fitMessage(e, info.Metadata)
	if e.Traceback != "" {
		cut := cutFront
		if e.PostMortem != nil { // a dump of faulthandler, not a traceback: it begins with what says most
			cut = cutBack
		}
		details = append(details, protoadapt.MessageV1Of(&errdetails.DebugInfo{Detail: cut(e.Traceback, room)}))
	}
	if e.RetryAfter > 0 {
		details = append(details, protoadapt.MessageV1Of(&errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)}))
	}
	code, known := reasonCodes[e.Reason]
	if !known {
		code = codes.Internal
	}
	s := status.New(code, message)
	if with, err := s.WithDetails(details...); err == nil {
		s = with
	}
	return s.Err()
}

// fitMessage is the message as far as the status has room for it, and the room that is left for a traceback, in bytes. What
// programs read, the metadata, is never cut for them.
func fitMessage(e *Error, metadata map[string]string) (message string, room int) {
	room = maxStatus - statusOverhead
	for key, value := range metadata {
		room -= len(key) + len(value)
	}
	reserved := min(len(e.Traceback), leastTraceback)
	message = cutFront(e.Message, maxDetails)
	for limit := maxDetails; messageCost(message) > room-reserved && limit > leastTraceback/4; limit = limit * 7 / 8 {
		message = cutFront(e.Message, limit)
	}
	return message, max(min(room-messageCost(message), maxDetails), leastTraceback/4)
}

// messageCost is what a message takes of maxStatus, in bytes: it is in the details, and a second time percent-encoded in
// grpc-message, which base64 does not lengthen.
func messageCost(message string) int {
	encoded := 0
	for _, c := range []byte(message) {
		if c < ' ' || c > '~' || c == '%' {
			encoded += len("%00") - 1
		}
		encoded++
	}
	return len(message) + encoded*3/4
}

func metadataOf(e *Error) map[string]string {
	m := map[string]string{"may_have_run": strconv.FormatBool(e.MayHaveRun)}
	for key, value := range map[string]string{"pool": e.Pool, "worker": e.Worker, "tool": e.Tool, "type": e.Type, "tool_reason": e.ToolReason} {
		if value != "" {
			m[key] = cutBack(value, maxStatusName)
		}
	}
	if len(e.Data) > 0 {
		m["data"] = string(e.Data)
	}
	if e.Call != 0 {
		m["call"] = strconv.FormatUint(e.Call, 10)
	}
	if e.PostMortem != nil {
		m["post_mortem"] = postMortemText(*e.PostMortem)
	}
	return m
}

// postMortemText is the post-mortem as JSON. The stack is the status's DebugInfo already; output lines go first.
func postMortemText(pm PostMortem) string {
	pm.Stack = ""
	for {
		text, err := json.Marshal(pm)
		if err != nil || len(text) <= maxDetails || len(pm.Output) == 0 {
			return string(text)
		}
		pm.Output = pm.Output[(len(pm.Output)+1)/2:]
	}
}

// cutFront keeps the last limit bytes: the end of a traceback says most.
func cutFront(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return "…" + strings.ToValidUTF8(text[len(text)-limit+len("…"):], "")
}
