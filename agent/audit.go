package agent

import (
	"context"
	"log/slog"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"time"

	pb "github.com/pitboss-run/pitboss/proto/pitboss/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

const (
	// refusalAuditPause is how often the refusals of one user and method are on record: who may do nothing must not push what
	// others did out of the last events.
	refusalAuditPause = time.Second
	// maxRefusers bounds how many users and methods are remembered for that.
	maxRefusers = 1024
	outcomeOK   = "ok"
)

// audit puts on record who ordered what: everything that only admins may do, done, failed or refused.
type audit struct {
	emit func(kind *eventKind, fields ...slog.Attr)

	mu       sync.Mutex // guards the following
	refusals map[refuser]*refusalCount
}

type refuser struct {
	uid    uint32
	method string
}

type refusalCount struct {
	told  time.Time // when an event was emitted last; monotonic
	since int64     // refusals since then
}

func newAudit(emit func(*eventKind, ...slog.Attr)) *audit {
	return &audit{emit: emit, refusals: map[refuser]*refusalCount{}}
}

// audited is true for what only admins may do.
func audited(method string) bool {
	need, listed := methodRoles[method]
	return !listed || need == roleAdmin
}

// unary records an order when it has ended.
func (a *audit) unary(ctx context.Context, in any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if !audited(info.FullMethod) {
		return handler(ctx, in)
	}
	begun := time.Now()
	out, err := handler(ctx, in)
	fields := append(whoOrdered(ctx, info.FullMethod), whatOrdered(in)...)
	a.emit(adminAction, append(fields, slog.String("outcome", outcomeOf(err)), seconds("took_s", time.Since(begun)))...)
	return out, err
}

// refused records that the peer may not use the method; its request is not read, so what it names is not known.
func (a *audit) refused(ctx context.Context, method string, now time.Time) {
	p, _ := peer.FromContext(ctx)
	if p == nil || !audited(method) {
		return
	}
	cred, ok := p.AuthInfo.(peerCredentials)
	if !ok {
		return
	}
	if count := a.due(refuser{cred.UID, method}, now); count > 0 {
		a.emit(adminRefused, append(whoOrdered(ctx, method), slog.Int64("count", count))...)
	}
}

// due is how many refusals the event of now stands for; 0 when none is to be emitted yet.
func (a *audit) due(key refuser, now time.Time) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.refusals) >= maxRefusers {
		for k, r := range a.refusals {
			if now.Sub(r.told) >= refusalAuditPause {
				delete(a.refusals, k)
			}
		}
	}
	r := a.refusals[key]
	if r == nil {
		if len(a.refusals) >= maxRefusers { // so many users within one pause: no more of them
			return 0
		}
		a.refusals[key] = &refusalCount{told: now}
		return 1
	}
	r.since++
	if now.Sub(r.told) < refusalAuditPause {
		return 0
	}
	count := r.since
	r.told, r.since = now, 0
	return count
}

// whoOrdered is the peer as the kernel knew it when it connected.
func whoOrdered(ctx context.Context, method string) []slog.Attr {
	fields := []slog.Attr{slog.String("method", cutBack(method[strings.LastIndexByte(method, '/')+1:], maxName))}
	p, _ := peer.FromContext(ctx)
	if p == nil {
		return fields
	}
	cred, ok := p.AuthInfo.(peerCredentials)
	if !ok {
		return fields
	}
	fields = append(fields, slog.Int64("uid", int64(cred.UID)), slog.Int64("pid", int64(cred.PID)))
	if u, err := user.LookupId(strconv.FormatUint(uint64(cred.UID), 10)); err == nil {
		fields = append(fields, slog.String("user", u.Username))
	}
	return fields
}

// whatOrdered is what the request names.
func whatOrdered(in any) (fields []slog.Attr) {
	add := func(name, value string) {
		if value != "" {
			fields = append(fields, slog.String(name, cutBack(value, maxName)))
		}
	}
	if m, ok := in.(interface{ GetPool() string }); ok {
		add("pool", m.GetPool())
	}
	if m, ok := in.(interface{ GetWorker() string }); ok {
		add("worker", m.GetWorker())
	}
	switch m := in.(type) {
	case *pb.CancelCallRequest:
		fields = append(fields, slog.Int64("call", int64(m.GetCallId())))
	case *pb.ScaleRequest:
		fields = append(fields, slog.Int64("workers", int64(m.GetWorkers())))
	case *pb.StopRequest:
		add("why", m.GetReason())
	}
	return fields
}

// outcomeOf is "ok", or the reason of the error that the peer gets.
func outcomeOf(err error) string {
	if err == nil {
		return outcomeOK
	}
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain {
			return info.GetReason()
		}
	}
	return status.Code(err).String()
}
