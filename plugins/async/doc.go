// Package async is the plugin kind of child topics: an ordered stream of
// batches per fiber.
//
// The doors are Opener and Fiber. Client speaks them over a gRPC stream per
// fiber, Serve answers them, and Fake plays them in memory. Owner: a Fiber
// belongs to whoever opened it. Invariants: batches of a fiber are taken and
// answered in the order of the calls; outputs are in the order of their
// sources, with their sources' timestamps; a record that fails is named and
// leaves no output. A fiber keeps no position: that is the children's.
package async
