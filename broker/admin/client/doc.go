// Package client speaks the admin API for the CLI and for tests.
//
// Owner: its caller; a Client holds no state but addresses, and is safe for
// concurrent use. It tries the addresses in order and stays with the first
// that answers; an answer that is a refusal is an answer. Errors wrap the
// kinds of package api, or ErrUnreachable with every address that was tried.
// It never retries a change whose outcome is unknown.
package client
