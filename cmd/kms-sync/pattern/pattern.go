// Package pattern bounds the regular expressions of tenants: in a few bytes they can ask for much memory and time.
package pattern

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
)

// Limits of an expression: its bytes, and the instructions that it becomes, of which a counted repetition makes many.
const (
	maxBytes        = 1 << 10
	maxInstructions = 2 << 10
)

// Compile compiles an expression.
func Compile(source string) (*regexp.Regexp, error) {
	if _, err := parse(source); err != nil {
		return nil, err
	}
	return regexp.Compile(source)
}

// Whole compiles an expression that is to match whole texts.
func Whole(source string) (*regexp.Regexp, error) {
	parsed, err := parse(source)
	if err != nil {
		return nil, err
	}
	return regexp.Compile(`\A(?:` + parsed.String() + `)\z`) // String, because a \Q without \E would reach beyond the source
}

// Instructions returns about how many instructions an expression becomes.
func Instructions(source string) (int, error) {
	parsed, err := parse(source)
	if err != nil {
		return 0, err
	}
	return instructions(parsed), nil
}

func parse(source string) (*syntax.Regexp, error) {
	if len(source) > maxBytes {
		return nil, fmt.Errorf("the regular expression has %d bytes; at most %d are allowed", len(source), maxBytes)
	}
	parsed, err := syntax.Parse(source, syntax.Perl)
	if err != nil {
		var wrong *syntax.Error
		if errors.As(err, &wrong) {
			return nil, fmt.Errorf("the regular expression cannot be parsed: %s", wrong.Code)
		}
		return nil, errors.New("the regular expression cannot be parsed")
	}
	if instructions(parsed) > maxInstructions {
		return nil, errors.New("the regular expression repeats too much; write * or + in place of large counts")
	}
	return parsed, nil
}

func instructions(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		n = min(n+instructions(sub), 2*maxInstructions)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min+1, re.Max)
	}
	return min(n, 2*maxInstructions)
}
