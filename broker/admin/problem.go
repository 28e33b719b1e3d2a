package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/millrace-io/millrace/broker/admin/api"
)

// problem turns a refusal of a room below into an answer. What has no kind is
// our fault: 500, with the text, since who reads it runs the broker.
func problem(err error) error {
	if err == nil {
		return nil
	}
	if status := statusOf(err); status != 0 {
		return huma.NewError(status, err.Error())
	}
	return huma.Error500InternalServerError(err.Error())
}

func statusOf(err error) int {
	kinds := []struct {
		kind   error
		status int
	}{
		{api.ErrInvalid, http.StatusBadRequest},
		{api.ErrNotFound, http.StatusNotFound},
		{api.ErrConflict, http.StatusConflict},
		{api.ErrTooLarge, http.StatusRequestEntityTooLarge},
		{api.ErrUnavailable, http.StatusServiceUnavailable},
		{api.ErrTimedOut, http.StatusGatewayTimeout},
		{context.DeadlineExceeded, http.StatusGatewayTimeout},
		{context.Canceled, http.StatusServiceUnavailable},
	}
	for _, k := range kinds {
		if errors.Is(err, k.kind) {
			return k.status
		}
	}
	return 0
}

// refuse answers outside huma, in the same form.
func refuse(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(api.Problem{Title: http.StatusText(status), Status: status, Detail: detail})
}
