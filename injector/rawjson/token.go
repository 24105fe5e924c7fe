package rawjson

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// fail keeps the first error and puts the Reader at the end of the text, where there is nothing to read.
func (r *Reader) fail(problem string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s at byte %d", problem, r.at)
	}
	r.at = len(r.text)
}

// peek is the next byte, 0 at the end of the text.
func (r *Reader) peek() byte {
	if r.at < len(r.text) {
		return r.text[r.at]
	}
	return 0
}

func (r *Reader) space() {
	for r.at < len(r.text) {
		switch r.text[r.at] {
		case ' ', '\t', '\r', '\n':
			r.at++
		default:
			return
		}
	}
}

// open goes into an object or array. It goes into neither where null is.
func (r *Reader) open(bracket byte, what string) bool {
	switch {
	case r.peek() == bracket && r.depth < MaxDepth:
		r.depth++
		r.at++
		r.space()
		return true
	case r.peek() == bracket:
		r.fail(fmt.Sprintf("more than %d objects and arrays are inside each other", MaxDepth))
	case !r.Null():
		r.fail(what + " is expected")
	}
	return false
}

// next goes to the next member or element, and reports whether there is one before the closing bracket.
func (r *Reader) next(bracket byte) bool {
	switch r.peek() {
	case bracket:
		return false
	case ',':
		r.at++
		r.space()
		return true
	}
	r.fail("a comma or the closing bracket is expected")
	return false
}

// close goes past the closing bracket.
func (r *Reader) close() {
	if r.err != nil {
		return
	}
	r.depth--
	r.at++
	r.space()
}

func (r *Reader) colon() {
	if r.peek() != ':' {
		r.fail("a colon is expected")
		return
	}
	r.at++
	r.space()
}

func (r *Reader) literal(word string) {
	if end := r.at + len(word); end > len(r.text) || r.text[r.at:end] != word {
		r.fail(word + " is expected")
		return
	}
	r.at += len(word)
	r.space()
}

// number reads a number as in RFC 8259.
func (r *Reader) number() string {
	start := r.at
	if r.peek() == '-' {
		r.at++
	}
	if r.peek() == '0' {
		r.at++
	} else {
		r.digits()
	}
	if r.peek() == '.' {
		r.at++
		r.digits()
	}
	if c := r.peek(); c == 'e' || c == 'E' {
		r.at++
		if c := r.peek(); c == '+' || c == '-' {
			r.at++
		}
		r.digits()
	}
	if r.err != nil {
		return ""
	}
	number := r.text[start:r.at]
	r.space()
	return number
}

func (r *Reader) digits() {
	if !digit(r.peek()) {
		r.fail("a digit is expected")
	}
	for digit(r.peek()) {
		r.at++
	}
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// quoted reads a string and returns it with its quotes, and whether all that is in it stands for itself.
func (r *Reader) quoted() (text string, plain bool) {
	if r.peek() != '"' {
		r.fail("a string is expected")
		return "", false
	}
	start, rest := r.at, r.text[r.at:]
	plain = true
	for i := 1 + special(rest[1:]); i < len(rest); i += special(rest[i:]) {
		r.at = start + i
		switch c := rest[i]; {
		case c == '"':
			r.at++
			r.space()
			return rest[:i+1], plain
		case c == '\\':
			length := escape(rest[i:])
			if length == 0 {
				r.fail("not an escape")
				return "", false
			}
			i += length
		case c < ' ':
			r.fail("a control character is in a string")
			return "", false
		default:
			i++
		}
		plain = false
	}
	r.at = len(r.text)
	r.fail("a string has no end")
	return "", false
}

// escape is the length of the escape at the beginning of a text, 0 if it is none.
func escape(text string) int {
	if len(text) < 2 {
		return 0
	}
	switch text[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(text) < 6 {
			return 0
		}
		for _, c := range []byte(text[2:6]) {
			if !digit(c) && ('a' > c || c > 'f') && ('A' > c || c > 'F') {
				return 0
			}
		}
		return 6
	}
	return 0
}

// unquoted reads a string and returns what it stands for, which is a part of the text where that is possible.
func (r *Reader) unquoted(what string) string {
	if r.peek() != '"' {
		r.fail(what + " is expected")
		return ""
	}
	text, plain := r.quoted()
	if r.err != nil {
		return ""
	}
	if inside := text[1 : len(text)-1]; plain || strings.IndexByte(inside, '\\') < 0 && utf8.ValidString(inside) {
		return inside
	}
	var s string // rare enough to leave it to those who know all of it
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		r.fail("a string is not right")
	}
	return s
}
