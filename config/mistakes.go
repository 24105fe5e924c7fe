package config

import (
	"errors"
	"fmt"
	"strings"
)

// A Mistake is one thing that a person wrote wrong and what to write instead.
type Mistake struct {
	Where   string // the annotation's full key, or the path of a field: "kms.alibabacloud.com/mode", "allow.roles[0]"
	Problem string // what is wrong with it, and what to do

	more int // the mistakes that are counted and not kept, for which this one stands
}

// Mistakes are all that is wrong with a document, so that it can be mended in one go. As an error it is the text a person
// sees: one line for one mistake, a numbered line each for several.
type Mistakes []Mistake

// Limits on the number of mistakes, and on the values that a mistake quotes, since longer texts are not read.
const (
	maxShown   = 50
	maxWhere   = 256
	maxProblem = 2 << 10
)

// Error implements error.
func (m Mistakes) Error() string {
	if len(m) == 1 {
		return m[0].line()
	}
	var b strings.Builder
	shown, more := 0, 0
	for _, one := range m {
		switch {
		case one.more > 0:
			more += one.more
		case shown == maxShown:
			more++
		default:
			shown++
			fmt.Fprintf(&b, "\n  %d. %s", shown, one.line())
		}
	}
	if more > 0 {
		fmt.Fprintf(&b, "\n  … and %d more", more)
	}
	return fmt.Sprintf("%d mistakes:%s", shown+more, b.String())
}

func (m Mistake) line() string {
	return shortened(m.Where, maxWhere) + ": " + shortened(m.Problem, maxProblem)
}

// Add adds a mistake, whose problem is formatted as by fmt.Sprintf. Of very many the first are kept and the others counted: the last
// element of such a list says how many there are more.
func (m *Mistakes) Add(where, format string, args ...any) {
	if !m.Full() {
		*m = append(*m, Mistake{Where: shortened(where, maxWhere), Problem: shortened(fmt.Sprintf(format, args...), maxProblem)})
		return
	}
	if (*m)[len(*m)-1].more == 0 {
		*m = append(*m, Mistake{})
	}
	last := &(*m)[len(*m)-1]
	last.more++
	last.Problem = fmt.Sprintf("… and %d more mistakes", last.more)
}

// Full reports whether a further mistake would only be counted.
func (m Mistakes) Full() bool { return len(m) >= maxShown }

// shortened leaves out the middle of a long text, which is a value that it quotes: what to do about it comes last.
func shortened(text string, most int) string {
	if len(text) <= most {
		return text
	}
	last := most / 4
	return strings.ToValidUTF8(text[:most-last], "") + " … " + strings.ToValidUTF8(text[len(text)-last:], "")
}

// Err returns nil for no mistakes: a nil Mistakes in an error interface would not be nil.
func (m Mistakes) Err() error {
	if len(m) == 0 {
		return nil
	}
	return m
}

// ErrNotFound is the error of a look-up in the cluster for an object that does not exist.
var ErrNotFound = errors.New("does not exist")
