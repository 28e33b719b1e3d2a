package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/admin/client"
)

// adminClient opens a client of the admin API; it connects at the first call.
func (a *app) adminClient() (*client.Client, error) {
	s, err := a.settings()
	if err != nil {
		return nil, err
	}
	a.logf("admin API %s (from %s)", strings.Join(s.Admin, ","), s.adminFrom)
	return client.New(client.Options{Addrs: s.Admin, DialTimeout: s.DialTimeout, AnswerTimeout: s.Timeout})
}

// adminError says what to do next.
func (a *app) adminError(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, client.ErrUnreachable):
		s, _ := a.settings()
		return fmt.Errorf("%w, from %s; start a broker with `millrace start`, or name its admin API with -X admin.hosts=HOST:PORT, MILLRACE_ADMIN=HOST:PORT or `millrace profile create NAME --set admin.hosts=HOST:PORT`", err, s.adminFrom)
	case errors.Is(err, api.ErrNotFound) && strings.Contains(err.Error(), "`millrace"):
		return fmt.Errorf("%s: %w", what, err) // says it already
	case errors.Is(err, api.ErrNotFound) && strings.Contains(what, "script"):
		return fmt.Errorf("%s: %w; `millrace wasm list` shows what is deployed", what, err)
	}
	if strings.Contains(err.Error(), what+": ") {
		return err // the broker names it too
	}
	return fmt.Errorf("%s: %w", what, err)
}
