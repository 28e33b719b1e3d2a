package kafka

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ApiVersions (key 18), versions 0 to 4. A version that is not known here is
// answered in v0 with UNSUPPORTED_VERSION and the range of this key, so that the
// client can ask again. No features are advertised: clients change their
// behaviour by them.

const (
	keyAPIVersions int16 = 18
	// unknownVersion marks a message whose body was not read.
	unknownVersion int16 = -1
)

func (s *Server) apiVersions(_ context.Context, r *request, m *kmsg.ApiVersionsRequest) kmsg.Response {
	response := m.ResponseKind().(*kmsg.ApiVersionsResponse)
	if m.Version == unknownVersion {
		response.SetVersion(0)
		response.ErrorCode = codeUnsupportedVersion
		response.ApiKeys = append(response.ApiKeys, apiKey(r.row))
		return response
	}
	if m.Version >= 3 && r.conn != nil && r.conn.software == "" {
		r.conn.software = software(m.ClientSoftwareName)
		s.metrics.Software(r.conn.software)
	}
	response.ApiKeys = make([]kmsg.ApiVersionsResponseApiKey, 0, len(s.rows))
	for _, row := range s.rows {
		response.ApiKeys = append(response.ApiKeys, apiKey(row))
	}
	slices.SortFunc(response.ApiKeys, func(a, b kmsg.ApiVersionsResponseApiKey) int { return int(a.ApiKey) - int(b.ApiKey) })
	return response
}

func apiKey(r *row) kmsg.ApiVersionsResponseApiKey {
	k := kmsg.NewApiVersionsResponseApiKey()
	k.ApiKey, k.MinVersion, k.MaxVersion = r.key, r.min, r.max
	return k
}
