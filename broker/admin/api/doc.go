// Package api holds the types of the admin API, and nothing else: the admin
// front serves them, the CLI's client reads them, script and pacemaker fill
// them. Fields have JSON names in snake_case with the unit last.
//
// Owner: nobody; every value is a copy that its receiver may keep.
// It never imports a room other than model, opens a connection or decides
// anything. A field once published keeps its name and meaning; new ones are
// added, so that a CLI of one version reads a broker of another.
package api
