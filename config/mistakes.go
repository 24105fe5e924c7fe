package config

import (
	"fmt"
	"strings"
)

// A Mistake is one thing that a person wrote wrong and what to write instead.
type Mistake struct {
	Where   string // the annotation's full key, or the path of a field: "kms.alibabacloud.com/mode", "allow.roles[0]"
	Problem string // what is wrong with it, and what to do
}

// Mistakes are all that is wrong with a document, so that it can be mended in one go. As an error it is the text a person
// sees: one line for one mistake, a numbered line each for several.
type Mistakes []Mistake

// What nobody reads to its end is cut: many mistakes, and long values that a mistake quotes.
const (
	maxShown   = 50
	maxProblem = 2 << 10
)

// Error implements error.
func (m Mistakes) Error() string {
	if len(m) == 1 {
		return m[0].Where + ": " + shortened(m[0].Problem)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d mistakes:", len(m))
	for i, one := range m[:min(len(m), maxShown)] {
		fmt.Fprintf(&b, "\n  %d. %s: %s", i+1, one.Where, shortened(one.Problem))
	}
	if more := len(m) - maxShown; more > 0 {
		fmt.Fprintf(&b, "\n  … and %d more", more)
	}
	return b.String()
}

func (m *Mistakes) add(where, format string, args ...any) {
	*m = append(*m, Mistake{Where: where, Problem: shortened(fmt.Sprintf(format, args...))})
}

func shortened(problem string) string {
	if len(problem) <= maxProblem {
		return problem
	}
	return strings.ToValidUTF8(problem[:maxProblem], "") + " …"
}

// err returns nil for no mistakes: a nil Mistakes in an error interface would not be nil.
func (m Mistakes) err() error {
	if len(m) == 0 {
		return nil
	}
	return m
}
