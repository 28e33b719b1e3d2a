// Package manifest is transform.yaml: what a script is called, which topics it joins, and under which limits it runs.
//
// Parse reads the file and checks each field where it stands, so that an error names its line; the caller then lets flags override
// fields; Check judges the whole. Canonical gives the bytes that the digest covers and that are stored, Decode reads them back.
//
// Owner: nobody; a Manifest is a value. Invariant: Canonical is a function of the fields' meaning alone, not of the file's layout or
// order of keys. It never reads a file or a topic: what only the cluster knows (does the input exist, is there a cycle) is judged there.
package manifest
