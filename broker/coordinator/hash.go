package coordinator

import "unicode/utf8"

// javaHash is Java's String.hashCode: over UTF-16 units, wrapping.
func javaHash(s string) int32 {
	var h int32
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		s = s[n:]
		if r >= 0x10000 {
			r -= 0x10000
			h = 31*h + (0xD800 + r>>10)
			r = 0xDC00 + r&0x3FF
		}
		h = 31*h + r
	}
	return h
}
