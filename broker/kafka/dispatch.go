package kafka

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// row declares one API key. Versions are the ones advertised; a request outside
// them ends the connection, as in Kafka, ApiVersions excepted.
type row struct {
	key      int16
	min, max int16
	name     string
	// handle answers before the next request is read. nil: no answer is sent.
	handle func(ctx context.Context, s *Server, r *request, message kmsg.Request) kmsg.Response
	// start begins what is answered later, in order; an error ends the connection.
	start func(s *Server, r *request, message kmsg.Request) (pending, error)
}

// on makes the row of an API key from its handler; the key comes from the
// message's type.
func on[M any, R interface {
	*M
	kmsg.Request
}](minVersion, maxVersion int16, handle func(s *Server, ctx context.Context, r *request, message R) kmsg.Response) row {
	key := R(new(M)).Key()
	return row{
		key: key, min: minVersion, max: maxVersion, name: kmsg.NameForKey(key),
		handle: func(ctx context.Context, s *Server, r *request, message kmsg.Request) kmsg.Response {
			return handle(s, ctx, r, message.(R))
		},
	}
}

// onStart is on for what answers later.
func onStart[M any, R interface {
	*M
	kmsg.Request
}](minVersion, maxVersion int16, start func(s *Server, r *request, message R) (pending, error)) row {
	key := R(new(M)).Key()
	return row{
		key: key, min: minVersion, max: maxVersion, name: kmsg.NameForKey(key),
		start: func(s *Server, r *request, message kmsg.Request) (pending, error) {
			return start(s, r, message.(R))
		},
	}
}

// register fills the table of handlers. The rows of consumer groups are in
// groups.go; without a coordinator they are not advertised.
func (s *Server) register() {
	rows := coreRows()
	if s.o.Groups != nil {
		rows = append(rows, groupRows()...)
	}
	s.rows = make(map[int16]*row, len(rows))
	for i := range rows {
		s.rows[rows[i].key] = &rows[i]
	}
}

var (
	// errUnknownAPI says that a peer asked for what this broker does not serve.
	errUnknownAPI = errors.New("API key is not served")
	// errVersion says that a peer asked in a version outside the advertised ones.
	errVersion = errors.New("API version is not served")
	// errDecode says that a request's bytes are not what its version demands.
	errDecode = errors.New("malformed request")
)

// decode reads a frame into a message of the version asked in.
func (s *Server) decode(r *request, body []byte) (kmsg.Request, error) {
	h, rest, err := parseHeader(body)
	if err != nil {
		return nil, err
	}
	r.header = h
	found, ok := s.rows[h.key]
	if !ok {
		return nil, fmt.Errorf("%w: %d (%s), version %d", errUnknownAPI, h.key, kmsg.NameForKey(h.key), h.version)
	}
	r.row = found
	message := kmsg.RequestForKey(h.key)
	if h.version < found.min || h.version > found.max {
		if h.key != keyAPIVersions {
			return nil, fmt.Errorf("%w: %s version %d", errVersion, found.name, h.version)
		}
		message.SetVersion(unknownVersion) // its body cannot be read and does not matter
		return message, nil
	}
	message.SetVersion(h.version)
	if message.IsFlexible() {
		if rest, err = skipTags(rest); err != nil {
			return nil, fmt.Errorf("%s version %d: %w", found.name, h.version, err)
		}
	}
	if r.decoded, err = shapeOf(h.key, h.version).measure(rest); err != nil {
		return nil, fmt.Errorf("%w: %s version %d: %w", errDecode, found.name, h.version, err)
	}
	if err := s.afford(r); err != nil {
		return nil, fmt.Errorf("%s version %d: %w", found.name, h.version, err)
	}
	if err := readMessage(message, rest); err != nil {
		return nil, fmt.Errorf("%w: %s version %d from client %q: %w", errDecode, found.name, h.version, h.clientID, err)
	}
	return message, nil
}

// serves tells whether a key is served in a version.
func (s *Server) serves(key, version int16) bool {
	r, ok := s.rows[key]
	return ok && version >= r.min && version <= r.max
}

// afford takes what a large decoded request needs from the budget. It does not
// wait for long, since it holds the frame meanwhile.
func (s *Server) afford(r *request) error {
	if r.decoded <= decodedBytesFree || r.charge == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, stallMaxPressed)
	defer cancel()
	n, err := s.requests.small.acquire(ctx, int64(r.decoded))
	r.charge.decoded += n
	if err != nil {
		return fmt.Errorf("%w: %d bytes decoded", errPressed, r.decoded)
	}
	return nil
}

// readMessage decodes; a panic of the codec is the peer's fault and its loss.
// Handlers are not guarded so: what breaks there is ours.
func readMessage(message kmsg.Request, b []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("decoder panic: %v\n%s", p, debug.Stack())
		}
	}()
	return message.ReadFrom(b)
}
