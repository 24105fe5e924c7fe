package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// operators are the string operators of RAM's policy grammar. The others (numbers, dates, addresses) decide nothing
// that the emulator knows, so a policy that uses one is refused when it is read, not misjudged later.
var operators = map[string]struct {
	match  func(want, have string) bool
	negate bool
}{
	"StringEquals":              {match: equal},
	"StringNotEquals":           {match: equal, negate: true},
	"StringEqualsIgnoreCase":    {match: strings.EqualFold},
	"StringNotEqualsIgnoreCase": {match: strings.EqualFold, negate: true},
	"StringLike":                {match: Match},
	"StringNotLike":             {match: Match, negate: true},
}

func equal(want, have string) bool { return want == have }

type condition struct {
	operator string
	key      string
	values   []string
}

func parseConditions(in map[string]map[string]texts) ([]condition, error) {
	var out []condition
	for _, operator := range slices.Sorted(maps.Keys(in)) {
		if _, ok := operators[operator]; !ok {
			return nil, fmt.Errorf("condition operator %q: want one of %s",
				operator, strings.Join(slices.Sorted(maps.Keys(operators)), ", "))
		}
		for _, key := range slices.Sorted(maps.Keys(in[operator])) {
			if len(in[operator][key]) == 0 {
				return nil, fmt.Errorf("condition %s on %s has no value", operator, key)
			}
			out = append(out, condition{operator, key, in[operator][key]})
		}
	}
	return out, nil
}

// holds reports whether one of the condition's values matches one of the request's, or none for a negated operator.
// A key that the request does not have matches nothing; that a negated operator then holds is UNVERIFIED for RAM.
func (c condition) holds(context map[string][]string) bool {
	op := operators[c.operator]
	matched := slices.ContainsFunc(context[c.key], func(have string) bool {
		return slices.ContainsFunc(c.values, func(want string) bool { return op.match(want, have) })
	})
	return matched != op.negate
}
