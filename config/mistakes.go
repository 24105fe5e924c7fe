package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
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
		return m[0].String()
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
			fmt.Fprintf(&b, "\n  %d. %s", shown, one.String())
		}
	}
	if more > 0 {
		fmt.Fprintf(&b, "\n  … and %d more", more)
	}
	return fmt.Sprintf("%d mistakes:%s", shown+more, b.String())
}

// Line returns all of them as one line.
func (m Mistakes) Line() string {
	lines := make([]string, 0, len(m))
	for _, one := range m {
		lines = append(lines, one.String())
	}
	return strings.Join(lines, "; ")
}

// String implements fmt.Stringer.
func (m Mistake) String() string {
	if m.more > 0 {
		return m.Problem
	}
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

// Nearest returns the candidate that is s but for capitals, else the one with the smallest edit distance to s, or "" when none is
// near enough to be what a person meant: more than a third of the longer word would have to change.
func Nearest(s string, candidates []string) string {
	best, bestDistance := "", 0
	for _, c := range candidates {
		if strings.EqualFold(s, c) {
			return c
		}
		near := max(len(s), len(c)) / 3
		if max(len(s)-len(c), len(c)-len(s)) > near {
			continue // as many insertions at least
		}
		d := distance(s, c)
		if d > near {
			continue
		}
		if best == "" || d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance counts the insertions, deletions and replacements of bytes, and swaps of neighbours, between a and b (optimal string
// alignment).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, before
		row[0] = i + 1
		for j := range len(b) {
			replace := last[j]
			if a[i] != b[j] {
				replace++
			}
			row[j+1] = min(replace, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}

// NotOneOf returns the error for a word that is not among those which are allowed. It suggests the nearest.
func NotOneOf(value string, allowed []string) error {
	err := fmt.Sprintf("%q is not one of %s", value, strings.Join(allowed, ", "))
	if near := Nearest(value, allowed); near != "" {
		err += fmt.Sprintf("; did you mean %q?", near)
	}
	return errors.New(err)
}

var (
	unknownField = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^line ([0-9]+): field (\S+) not found in type \S+$`)
	})
	goType = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`into (\*?)(\w*config\.)?(\S+)$`) })
)

// YAMLError rewrites err for the author of the YAML, without the names of Go types. For an unknown field it suggests the nearest of
// fields, if there are any.
func YAMLError(err error, fields []string) error {
	var types *yaml.TypeError
	if !errors.As(err, &types) {
		return fmt.Errorf("not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	var lines []string
	for _, line := range types.Errors {
		if m := unknownField().FindStringSubmatch(line); m != nil {
			line = NoField(m[1], m[2], fields).Error()
		}
		lines = append(lines, goType().ReplaceAllString(line, "where $3 is expected"))
	}
	return errors.New(strings.Join(lines, "; "))
}

// NoField returns the error for a field that does not exist, on a line. It suggests the nearest of fields.
func NoField(line, name string, fields []string) error {
	problem := fmt.Sprintf("line %s: there is no field %q", line, name)
	if near := Nearest(name, fields); near != "" {
		problem += fmt.Sprintf("; did you mean %q?", near)
	} else if len(fields) > 0 {
		problem += "; the fields are " + strings.Join(fields, ", ")
	}
	return errors.New(problem)
}
