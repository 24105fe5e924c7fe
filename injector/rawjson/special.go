package rawjson

import "math/bits"

// special is the index of the first byte that does not stand for itself in a JSON string (a quote, a backslash, a control
// character) or is not ASCII; the text's length if there is none. Most of a review are strings, and most of their bytes are not
// special: they are looked at eight at a time.
func special[S ~string | ~[]byte](s S) int {
	const each, top = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(s); i += 8 {
		w := s[i : i+8]
		x := uint64(w[0]) | uint64(w[1])<<8 | uint64(w[2])<<16 | uint64(w[3])<<24 |
			uint64(w[4])<<32 | uint64(w[5])<<40 | uint64(w[6])<<48 | uint64(w[7])<<56
		// Of a byte below 0x80 a subtraction sets the top bit when it goes below zero, which is when the byte is less than a space,
		// or no different from a quote or backslash. It may then do so in higher bytes too: the lowest is right.
		quote, backslash := x^each*'"', x^each*'\\'
		if found := (x | (x - each*' ') | (quote - each) | (backslash - each)) & top; found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x80 {
			return i
		}
	}
	return i
}
