package content

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// maxName is the longest key that Kubernetes allows in a Secret, and longer ones are not rewritten.
const maxName = validation.DNS1123SubdomainMaxLength

// keyProblem says what is wrong with a key of a Secret; "" means nothing.
func keyProblem(key string) string {
	switch {
	case key == "":
		return "is empty"
	case len(key) > maxName:
		return fmt.Sprintf("has %d bytes; Kubernetes allows %d", len(key), maxName)
	case len(validation.IsConfigMapKey(key)) > 0:
		return "is not allowed by Kubernetes, which takes letters, digits and - _ . (and not . or .. alone)"
	}
	return ""
}

// Limits of a regular expression: its bytes, and the instructions that it becomes, of which a counted repetition makes many.
const (
	maxPattern = 1 << 10
	maxProgram = 2 << 10
)

// compile compiles a regular expression of a tenant.
func compile(source string) (*regexp.Regexp, error) {
	if _, err := program(source); err != nil {
		return nil, err
	}
	return regexp.Compile(source)
}

// program bounds the instructions that an expression becomes.
func program(source string) (int, error) {
	if len(source) > maxPattern {
		return 0, fmt.Errorf("the regular expression has %d bytes; at most %d are allowed", len(source), maxPattern)
	}
	parsed, err := syntax.Parse(source, syntax.Perl)
	if err != nil {
		var wrong *syntax.Error
		if errors.As(err, &wrong) {
			return 0, fmt.Errorf("the regular expression cannot be parsed: %s", wrong.Code)
		}
		return 0, errors.New("the regular expression cannot be parsed")
	}
	n := instructions(parsed)
	if n > maxProgram {
		return n, errors.New("the regular expression repeats too much; write * or + in place of large counts")
	}
	return n, nil
}

func instructions(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		n = min(n+instructions(sub), 2*maxProgram)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min+1, re.Max)
	}
	return min(n, 2*maxProgram)
}

// replaceAll replaces a text in a value.
func replaceAll(value []byte, source, target string) ([]byte, error) {
	if len(value)+bytes.Count(value, []byte(source))*len(target) > MaxSize {
		return nil, fmt.Errorf("compat.replaceRuleValues makes a value larger than %d bytes", MaxSize)
	}
	return []byte(strings.ReplaceAll(string(value), source, target)), nil
}
