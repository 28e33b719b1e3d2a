// Package admin is the HTTP front for people and machines that run Millrace:
// what is deployed and what runs, the cluster's settings and health, metrics
// and profiles. It is described by its own OpenAPI document (/openapi.json,
// checked in as docs/openapi.json) and a page that renders it without any
// other server (/docs).
//
// Owner: one Server per broker; it keeps nothing that outlives a request but
// the count of deployments under way. Invariants: what changes something is
// taken only from this machine unless Options.Remote allows more; profiles are
// served to this machine alone; a request that a browser made for another
// site's page is refused; every body has a limit with a name.
//
// It never decides anything: each handler asks one of the interfaces in
// doors.go and turns the answer, or the kind of refusal, into HTTP.
package admin
