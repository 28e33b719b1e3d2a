// Command demo shows the main job end to end: it starts a broker with its
// sidecar on free ports and a temporary directory, generates and deploys a
// JavaScript and a Go script, feeds two real data sets through the Kafka API,
// consumes the child topics with a consumer group meanwhile, and prints what
// went in, what came out, and how fast. It leaves nothing running, unless told
// to by -keep.
//
// The data are the USGS feed of a week's earthquakes (1,707 records) and the FAA
// wildlife strike database's sample (10,000 records), as the npm package
// vega-datasets 2.11.0 ships them.
package main
