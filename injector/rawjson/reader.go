// Package rawjson reads JSON in one pass, making Go values of nothing but what it is asked for, and appends JSON strings; all
// without reflection.
package rawjson

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxDepth is how deep objects and arrays may be inside each other. A pod with its managed fields has about 20 levels.
const MaxDepth = 128

// MaxElements is how many elements of arrays and entries of maps may be made into Go values, all together: two bytes of text are an
// empty element, and a hundred of memory. What is skipped is not counted. A pod has some dozens.
const MaxElements = 20_000

// A Reader is at a place in a JSON text, before a value. Each method but End reads that value, all of it, and leaves the Reader
// behind it. After an error there is nothing more to read: methods return zero values, and End has the error, which says
// where it happened and quotes nothing of the text. Strings are parts of the text, unless there is an escape in them.
//
// As in encoding/json null is the zero value of anything, strings that are not UTF-8 are made so, and what is skipped must be JSON
// too. Names are compared in the case in which they are written. Whether one is there twice, the loop over Members decides.
type Reader struct {
	text  string
	at    int // the next byte
	depth int
	count int // of what MaxElements limits, so far
	err   error
}

// NewReader is a Reader at the beginning of a text.
func NewReader(text string) *Reader {
	r := &Reader{text: text}
	r.space()
	return r
}

// End is the first error so far, or one that says that something follows the value that was read last.
func (r *Reader) End() error {
	if r.err == nil && r.at < len(r.text) {
		r.fail("something follows the JSON value")
	}
	return r.err
}

// At is the Reader's place, for Since.
func (r *Reader) At() int { return r.at }

// Since is the text between an earlier place and this one.
func (r *Reader) Since(at int) string { return strings.TrimRight(r.text[at:r.at], " \t\r\n") }

// Members is for range: over the names of an object's members. In the loop's body the Reader is before the member's value; what the
// body leaves unread is skipped, and so are all further members when it leaves the loop.
func (r *Reader) Members(yield func(name string) bool) {
	if !r.open('{', "an object") {
		return
	}
	for more := r.peek() != '}'; more; more = r.next('}') {
		var name string
		if yield == nil {
			r.quoted()
		} else {
			name = r.unquoted("a member's name")
		}
		r.colon()
		value := r.at
		if yield != nil && r.err == nil && !yield(name) {
			yield = nil
		}
		if r.at == value {
			r.Skip()
		}
	}
	r.close()
}

// Count counts one more of what MaxElements limits, which is also the next after so many in a list that may have limit of them.
func (r *Reader) Count(so, limit int, what string) {
	r.count++
	switch {
	case so >= limit:
		r.fail(fmt.Sprintf("there are more than %d %s", limit, what))
	case r.count > MaxElements:
		r.fail(fmt.Sprintf("there are more than %d containers, variables, mounts, annotations and the like", MaxElements))
	}
}

// Elements is for range, over the elements of an array, and otherwise as Members.
func (r *Reader) Elements(yield func() bool) {
	if !r.open('[', "an array") {
		return
	}
	for more := r.peek() != ']'; more; more = r.next(']') {
		value := r.at
		if yield != nil && r.err == nil && !yield() {
			yield = nil
		}
		if r.at == value {
			r.Skip()
		}
	}
	r.close()
}

// Text reads a string.
func (r *Reader) Text() string {
	if r.Null() {
		return ""
	}
	return r.unquoted("a string")
}

// Scalar reads a string, or returns the text of any other value.
func (r *Reader) Scalar() string {
	if r.peek() == '"' {
		return r.unquoted("a string")
	}
	start := r.at
	r.Skip()
	return strings.TrimRight(r.text[start:r.at], " \t\r\n")
}

// Bool reads true or false.
func (r *Reader) Bool() bool {
	if r.Null() {
		return false
	}
	value := r.peek() == 't'
	switch r.peek() {
	case 't':
		r.literal("true")
	case 'f':
		r.literal("false")
	default:
		r.fail("true or false is expected")
	}
	return value && r.err == nil
}

// Int reads a whole number.
func (r *Reader) Int() int64 {
	if r.Null() {
		return 0
	}
	start := r.at
	if c := r.peek(); c != '-' && !digit(c) {
		r.fail("a number is expected")
		return 0
	}
	digits := r.number()
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil && r.err == nil {
		r.at = start
		r.fail("a whole number of 64 bits is expected")
		return 0
	}
	return n
}

// Null reads null and returns true, or reads nothing.
func (r *Reader) Null() bool {
	if r.peek() != 'n' {
		return false
	}
	r.literal("null")
	return r.err == nil
}

// Skip reads any value.
func (r *Reader) Skip() {
	switch c := r.peek(); {
	case c == '"':
		r.quoted()
	case c == '{':
		r.Members(nil)
	case c == '[':
		r.Elements(nil)
	case c == 't':
		r.literal("true")
	case c == 'f':
		r.literal("false")
	case c == 'n':
		r.literal("null")
	case c == '-' || digit(c):
		r.number()
	default:
		r.fail("a value is expected")
	}
}
