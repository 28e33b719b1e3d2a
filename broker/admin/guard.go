package admin

import (
	"fmt"
	"net"
	"net/http"
	"strings"
)

// guard refuses what a browser was made to send by another site's page, and
// changes that come from other machines.
//
// A listener on loopback is no wall against a browser on this machine: a page
// can post to it (cross-origin), or give its own name this address (DNS
// rebinding). Hence the check of Origin on changes and of Host on everything
// that arrives over loopback.
func (s *Server) guard(next http.Handler) http.Handler {
	sameOrigin := http.NewCrossOriginProtection()
	sameOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusForbidden, "the request came from a page of another site")
	}))
	checked := sameOrigin.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local := isLoopback(r.RemoteAddr)
		switch {
		case local && !isOwnName(r.Host):
			refuse(w, http.StatusForbidden, fmt.Sprintf(
				"host %q: over loopback ask for localhost or an IP address", r.Host))
		case !local && !s.o.Remote && changes(r.Method):
			refuse(w, http.StatusForbidden,
				"changes are taken from this machine only; run the command there, since this API knows no login yet")
		case !local && strings.HasPrefix(r.URL.Path, "/debug/"):
			refuse(w, http.StatusForbidden, "profiles are served to this machine only")
		default:
			checked.ServeHTTP(w, r)
		}
	})
}

func changes(method string) bool {
	return method != http.MethodGet && method != http.MethodHead && method != http.MethodOptions
}

// isLoopback tells whether a HOST:PORT is this machine's own.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// isOwnName tells whether a Host header cannot be the name of a stranger's
// site: an IP address, localhost, or a name without a dot (a container's).
func isOwnName(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	return !strings.Contains(host, ".") || net.ParseIP(host) != nil || strings.HasSuffix(host, ".localhost")
}
