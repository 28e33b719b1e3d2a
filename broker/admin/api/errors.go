package api

import "errors"

// The kinds of refusal that the admin API knows. A room that refuses wraps one
// of them (fmt.Errorf("script %q: %w", name, api.ErrNotFound)); the admin front
// turns it into a status, and the CLI's client back into the same error.
var (
	// ErrInvalid: what was asked is wrong in itself; change it (400).
	ErrInvalid = errors.New("invalid request")
	// ErrNotFound: what is named does not exist; look at the list (404).
	ErrNotFound = errors.New("not found")
	// ErrConflict: it cannot be done as things stand, for example since
	// another deployment came in between; look, then ask again (409).
	ErrConflict = errors.New("conflict")
	// ErrTooLarge: a limit with a name was passed (413).
	ErrTooLarge = errors.New("too large")
	// ErrUnavailable: what is needed is down or not ready yet; ask again
	// later (503).
	ErrUnavailable = errors.New("not available")
	// ErrTimedOut: it was started and may still happen (504).
	ErrTimedOut = errors.New("timed out")
)

// Problem is the body of every answer with an error status, as RFC 9457 has it.
type Problem struct {
	Title  string `json:"title" doc:"The status in words"`
	Status int    `json:"status" doc:"The HTTP status"`
	Detail string `json:"detail" doc:"What was tried, why it failed, what to do next"`
}
