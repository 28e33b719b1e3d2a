// Package judge knows every record that was written to a topic, when it was
// acknowledged and at which offset, and what readers saw of it meanwhile. Held against
// the topic it says what is wrong: records that are lost, doubled, out of order, at
// another offset, of another value or of nobody; offsets that nothing stands at; what
// was read and is no longer so; and acknowledgements that took too long.
//
// A record says who wrote it: producer and number, which counts up from 0 in each
// partition, and a filling that follows from these. Several producers may write to a
// partition; each one's order is judged by itself.
//
// Owner: its test. It writes and reads nothing itself, and has no clock. A record whose
// producer was told of an error may be there or not, but only once.
package judge
