package selftest

import (
	"math/bits"
	"time"
)

// fineBits is how finely a power of two is parted: a percentile is at most 1/32 too high.
const fineBits = 5

// spread holds how long operations took, in memory that does not grow. The zero value
// is empty.
type spread struct {
	counts [64 << fineBits]int64
	count  int64
	max    time.Duration
}

// add counts one that took d.
func (s *spread) add(d time.Duration) {
	s.counts[slot(uint64(max(d, 0)))]++
	s.count++
	s.max = max(s.max, d)
}

// slot numbers the ranges of nanoseconds, ascending.
func slot(n uint64) int {
	if n < 1<<fineBits {
		return int(n)
	}
	shift := bits.Len64(n) - 1 - fineBits
	return (shift+1)<<fineBits + int(n>>shift) - 1<<fineBits
}

// top gives the last value of a range.
func top(slot int) uint64 {
	if slot < 1<<fineBits {
		return uint64(slot)
	}
	shift := slot>>fineBits - 1
	first := uint64(slot&(1<<fineBits-1)|1<<fineBits) << shift
	return first + 1<<shift - 1
}

// percentile gives the time within which p percent were done; 0 of none.
func (s *spread) percentile(p float64) time.Duration {
	want := int64(float64(s.count)*p/100 + 0.5)
	var seen int64
	for i, n := range s.counts {
		if seen += n; n > 0 && seen >= want {
			return min(time.Duration(top(i)), s.max)
		}
	}
	return s.max
}
