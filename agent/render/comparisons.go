package render

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

func hasKey(a []any) (any, error) {
	object, ok := a[0].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("hasKey needs an object, and this is %s", kind(a[0]))
	}
	key, ok := a[1].(string)
	if !ok {
		return nil, fmt.Errorf("a key is a text, and this is %s", kind(a[1]))
	}
	_, ok = object[key]
	return ok, nil
}

func index(a []any) (any, error) {
	value := a[0]
	for _, by := range a[1:] {
		switch in := value.(type) {
		case map[string]any:
			key, ok := by.(string)
			if ok {
				value, ok = in[key]
			}
			if !ok {
				return nil, fmt.Errorf("that key does not exist; the object has %s", available(in))
			}
		case []any:
			i, err := count(by)
			if err != nil || i >= len(in) {
				return nil, fmt.Errorf("that item does not exist; it is %s, counted from 0", available(in))
			}
			value = in[i]
		default:
			return nil, fmt.Errorf("index needs an object or a list, and this is %s", kind(value))
		}
	}
	return value, nil
}

func length(a []any) (any, error) {
	var n int
	switch v := a[0].(type) {
	case string:
		n = len(v)
	case []any:
		n = len(v)
	case map[string]any:
		n = len(v)
	default:
		return nil, fmt.Errorf("%s has no length", kind(a[0]))
	}
	return json.Number(fmt.Sprint(n)), nil
}

// eq reports whether the first argument equals one of the others.
func eq(a []any) (any, error) {
	for _, other := range a[1:] {
		if equal, err := equals(a[0], other); err != nil || equal {
			return equal, err
		}
	}
	return false, nil
}

func ne(a []any) (any, error) {
	equal, err := equals(a[0], a[1])
	return !equal, err
}

// equals compares values of one kind. Null equals only null, and may be compared with all.
func equals(a, b any) (bool, error) {
	if a == nil || b == nil {
		return a == nil && b == nil, nil
	}
	if x, ok := a.(bool); ok {
		if y, ok := b.(bool); ok {
			return x == y, nil
		}
	}
	order, err := ordered(a, b)
	return order == 0, err
}

func compare(holds func(order int) bool) func([]any) (any, error) {
	return func(a []any) (any, error) {
		order, err := ordered(a[0], a[1])
		return holds(order), err
	}
}

// ordered compares two texts or two numbers.
func ordered(a, b any) (int, error) {
	switch a := a.(type) {
	case string:
		if b, ok := b.(string); ok {
			return strings.Compare(a, b), nil
		}
	case json.Number:
		if b, ok := b.(json.Number); ok {
			return orderedNumbers(a, b)
		}
	}
	return 0, fmt.Errorf("%s and %s cannot be compared", kind(a), kind(b))
}

func orderedNumbers(a, b json.Number) (int, error) {
	if a == b {
		return 0, nil
	}
	wholeA, errA := a.Int64()
	wholeB, errB := b.Int64()
	if errA == nil && errB == nil {
		return cmp.Compare(wholeA, wholeB), nil
	}
	floatA, errA := a.Float64()
	floatB, errB := b.Float64()
	const exact = 15 // digits that a float64 holds
	if errA != nil || errB != nil || floatA == floatB && max(len(a), len(b)) > exact {
		return 0, errors.New("numbers with so many digits cannot be compared")
	}
	return cmp.Compare(floatA, floatB), nil
}
