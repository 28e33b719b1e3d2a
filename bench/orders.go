package main

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Orders are the records of the transform job: JSON of about 1 KiB whose keys
// ascend, so that every language prints them alike. One in four is urgent; order
// i goes to partition i mod jobPartitions.
const (
	orderBytes    = 1024
	jobPartitions = 4
	urgentEvery   = 4 // of a partition's orders
	maskedEmail   = "***"
)

// notes fill orders up; a few are enough, since nothing here compresses.
var notes = func() [64]string {
	var all [64]string
	state := uint64(0x9e3779b97f4a7c15)
	for i := range all {
		var b []byte
		for len(b) < orderBytes {
			state ^= state << 13
			state ^= state >> 7
			state ^= state << 17
			b = strconv.AppendUint(b, state, 36)
		}
		all[i] = string(b)
	}
	return all
}()

func urgent(i int64) bool { return i/jobPartitions%urgentEvery == 0 }

// keptAt is the order that the n-th child record of a partition was made of.
func keptAt(partition int32, n int64) int64 { return n*urgentEvery*jobPartitions + int64(partition) }

// keptOf is how many of the first n orders go on to a partition's child.
func keptOf(n int64, partition int32) int64 {
	const cycle = urgentEvery * jobPartitions
	return (n - int64(partition) + cycle - 1) / cycle
}

// appendOrder appends order i; due is in microseconds since 1970.
func appendOrder(dst []byte, i int64, due int64, email string) []byte {
	start := len(dst)
	dst = append(dst, `{"amount":`...)
	dst = strconv.AppendInt(dst, i%9973, 10)
	dst = append(dst, `.5,"city":"Zürich","currency":"CHF","customer":"c-`...)
	dst = strconv.AppendInt(dst, i%100_003, 10)
	dst = append(dst, `","due":`...)
	dst = strconv.AppendInt(dst, due, 10)
	dst = append(dst, `,"email":"`...)
	dst = append(dst, email...)
	dst = append(dst, `","id":`...)
	dst = strconv.AppendInt(dst, i, 10)
	dst = append(dst, `,"items":[{"price":12.5,"sku":"A-1"},{"price":3,"sku":"B-22"}],"note":"`...)
	const tail = `","paid":true,"region":"eu-west-1","urgent":`
	dst = append(dst, notes[i%int64(len(notes))][:max(0, orderBytes-(len(dst)-start)-len(tail)-len("false}"))]...)
	dst = append(dst, tail...)
	dst = strconv.AppendBool(dst, urgent(i))
	return append(dst, '}')
}

// emailOf is as long as what masks it is not.
func emailOf(i int64) string { return "customer" + strconv.FormatInt(i%100_003, 10) + "@example.com" }

// order is what the loader writes.
func order(i int64) []byte {
	return appendOrder(make([]byte, 0, orderBytes+64), i, 0, emailOf(i))
}

// repeatedOrders gives order i mod 16,384, made before anything is measured: to
// make them one by one takes a third of what the loader can send, 640 MB/s
// against 950-1,100 into a broker in memory. A script sees the same kind of order.
func repeatedOrders() func(i int64) []byte {
	const many = 1024 * urgentEvery * jobPartitions
	made := make([][]byte, many)
	for i := range made {
		made[i] = order(int64(i))
	}
	return func(i int64) []byte { return made[i%many] }
}

// ledger checks a child against its parent: every order that had to pass is
// there once, in order, with nothing changed but its email.
type ledger struct {
	orders int64 // in the parent
	seen   [jobPartitions]int64
	left   int64
	want   []byte
}

func newLedger(orders int64) *ledger {
	l := &ledger{orders: orders}
	for p := range int32(jobPartitions) {
		l.left += keptOf(orders, p)
	}
	return l
}

// take checks one child record.
func (l *ledger) take(r *kgo.Record) error {
	n := l.seen[r.Partition]
	i := keptAt(r.Partition, n)
	if i >= l.orders {
		return fmt.Errorf("partition %d: a record beyond the last: %.80s", r.Partition, r.Value)
	}
	l.want = appendMasked(l.want[:0], i)
	if !bytes.Equal(r.Value, l.want) {
		return fmt.Errorf("partition %d, record %d: want order %d, %s; got %s", r.Partition, n, i, l.want, r.Value)
	}
	l.seen[r.Partition]++
	l.left--
	return nil
}

// appendMasked appends what the script makes of order i: the note stays as long
// as it was beside the whole email.
func appendMasked(dst []byte, i int64) []byte {
	whole := emailOf(i)
	start := len(dst)
	dst = appendOrder(dst, i, 0, whole)
	at := start + bytes.Index(dst[start:], []byte(`"email":"`)) + len(`"email":"`)
	n := copy(dst[at:], maskedEmail)
	return append(dst[:at+n], dst[at+len(whole):]...)
}

// dueOrder is an order of a latency run: it carries its due time.
func dueOrder(i int, due time.Time) []byte {
	return appendOrder(make([]byte, 0, orderBytes+64), int64(i), due.UnixMicro(), emailOf(int64(i)))
}

// dueOfOrder reads an order's due time; none in what only primes a topic.
func dueOfOrder(r *kgo.Record) (time.Time, bool) {
	_, rest, there := bytes.Cut(r.Value, []byte(`"due":`))
	digits, _, ends := bytes.Cut(rest, []byte(","))
	if !there || !ends {
		return time.Time{}, false
	}
	us, err := strconv.ParseInt(string(digits), 10, 64)
	return time.UnixMicro(us), err == nil && us > 0
}
