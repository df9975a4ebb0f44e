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
	// maxDetails bounds the traceback and the post-mortem in a status, in bytes each: a status travels in HTTP/2 trailers,
	// which stock clients cut at 8 KiB in all, after base64.
	maxDetails = 2 << 10
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
	if e.Traceback != "" {
		cut := cutFront
		if e.PostMortem != nil { // a dump of faulthandler, not a traceback: it begins with what says most
			cut = cutBack
		}
		details = append(details, protoadapt.MessageV1Of(&errdetails.DebugInfo{Detail: cut(e.Traceback, maxDetails)}))
	}
	if e.RetryAfter > 0 {
		details = append(details, protoadapt.MessageV1Of(&errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)}))
	}
	code, known := reasonCodes[e.Reason]
	if !known {
		code = codes.Internal
	}
	s := status.New(code, cutFront(e.Message, maxDetails))
	if with, err := s.WithDetails(details...); err == nil {
		s = with
	}
	return s.Err()
}

func metadataOf(e *Error) map[string]string {
	m := map[string]string{"may_have_run": strconv.FormatBool(e.MayHaveRun)}
	for key, value := range map[string]string{"pool": e.Pool, "worker": e.Worker, "tool": e.Tool, "type": e.Type, "data": string(e.Data)} {
		if value != "" && len(value) <= maxDetails {
			m[key] = value
		}
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
