package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"

	"github.com/millrace-io/millrace/proto/pluginpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// sessionKey names the session's token in the metadata of calls.
const sessionKey = "millrace-session"

// Link is a connection to a sidecar, with the session that Hello opened on it.
// The clients of all three kinds share one.
type Link struct {
	Conn grpc.ClientConnInterface
	// Dial makes a connection of its own to the same sidecar, for a Line.
	Dial    func(context.Context) (net.Conn, error)
	session atomic.Pointer[string]
}

// Session gives the token that Hello brought; without one it fails with ErrSession.
func (l *Link) Session() (string, error) {
	token := l.session.Load()
	if token == nil {
		return "", fmt.Errorf("%w: say hello first", ErrSession)
	}
	return *token, nil
}

// Outgoing adds the session to a call's context; without one it fails with
// ErrSession.
func (l *Link) Outgoing(ctx context.Context) (context.Context, error) {
	token, err := l.Session()
	if err != nil {
		return nil, err
	}
	return metadata.AppendToOutgoingContext(ctx, sessionKey, token), nil
}

// TokenOf reads the session's token of an incoming call.
func TokenOf(ctx context.Context) string {
	values := metadata.ValueFromIncomingContext(ctx, sessionKey)
	if len(values) != 1 {
		return ""
	}
	return values[0]
}

// sentinels and the status codes that carry them over the link.
var sentinels = []struct {
	err  error
	code codes.Code
}{
	{ErrDown, codes.Unavailable},
	{ErrSession, codes.Aborted},
	{ErrOtherNode, codes.PermissionDenied},
	{ErrProtocol, codes.FailedPrecondition},
	{ErrModule, codes.DataLoss},
	{ErrUnknownScript, codes.NotFound},
	{ErrMemory, codes.ResourceExhausted},
	{ErrRequest, codes.InvalidArgument},
}

// ToStatus makes an error of this package fit for the link.
func ToStatus(err error) error {
	if err == nil {
		return nil
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return status.Error(s.code, strings.TrimPrefix(err.Error(), s.err.Error()+": "))
		}
	}
	if s := status.FromContextError(err); s.Code() != codes.Unknown {
		return s.Err()
	}
	return status.Error(codes.Unknown, err.Error())
}

// FromStatus is ToStatus's inverse; what it does not know becomes ErrDown, for
// the caller then knows nothing of the other end.
func FromStatus(err error) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok || errors.Is(err, grpc.ErrClientConnClosing) { // its code would say that the caller gave up
		return fmt.Errorf("%w: %w", ErrDown, err)
	}
	return FromCode(s.Code(), s.Message())
}

// FromCode is FromStatus for a refusal that travelled in a message.
func FromCode(code codes.Code, text string) error {
	for _, s := range sentinels {
		if s.code != code {
			continue
		}
		if text == s.err.Error() {
			return s.err
		}
		return fmt.Errorf("%w: %s", s.err, text)
	}
	switch code {
	case codes.Canceled:
		return context.Canceled
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	case codes.Unknown:
		return errors.New(text)
	}
	return fmt.Errorf("%w: %s: %s", ErrDown, code, text)
}

// Refusal is ToStatus for an error that travels in a message.
func Refusal(err error) *pluginpb.Refusal {
	s := status.Convert(ToStatus(err))
	return &pluginpb.Refusal{Code: int32(s.Code()), Text: s.Message()}
}
