package render

import (
	"errors"
	"fmt"
	"math"
	"reflect"

	"github.com/jmespath/go-jmespath"
)

// The limits on the evaluation of an expression. The library has none, and `[@,@][]|[@,@][]|…` doubles its result with every eight
// characters.
const (
	maxSteps = 1 << 16   // each allocates some ten bytes
	maxText  = maxOutput // bytes written by to_string and join
	// StepsOfFile limits all expressions of a file together.
	StepsOfFile = 16 * maxSteps
	// bytesOfStep is how many bytes to_string and join write in the time of a step.
	bytesOfStep = 64
)

// An estimate is an upper bound of an expression's cost, whatever its input: the size of the result, the steps (each) and the bytes (text),
// as multiples of the input's size, and the steps that do not depend on the input (once).
type estimate struct{ size, once, each, text float64 }

// affordable returns the steps that remain after an expression on a document of so many values and bytes of text, or an error if it may
// exceed a limit.
func affordable(expression *jmespath.JMESPath, values, text int, left float64) (float64, error) {
	total := float64(values + text)
	e := estimateOf(node{reflect.ValueOf(expression).Elem().FieldByName("ast")}, total)
	steps := e.once + e.each*float64(values)
	if steps > min(maxSteps, left) || e.text*total > maxText || e.size > math.MaxInt32 {
		return left, errors.New("it takes too much work: it multiplies its input, or processes a large value many times; " +
			"select less with a shorter expression")
	}
	return left - steps - e.text*total/bytesOfStep, nil
}

// A node is a node of an expression; the library does not export its parts.
type node struct{ v reflect.Value }

func (n node) kind() int64      { return n.v.FieldByName("nodeType").Int() }
func (n node) len() int         { return n.v.FieldByName("children").Len() }
func (n node) child(i int) node { return node{n.v.FieldByName("children").Index(i)} }
func (n node) name() string     { return n.v.FieldByName("value").Elem().String() }

// field returns the first field of an expression. Expressions with different first fields share no part of their input.
func (n node) field() (name string, ok bool) {
	for {
		switch n.kind() {
		case int64(jmespath.ASTField):
			return n.name(), true
		case int64(jmespath.ASTKeyValPair), int64(jmespath.ASTSubexpression), int64(jmespath.ASTIndexExpression), int64(jmespath.ASTPipe),
			int64(jmespath.ASTFlatten), int64(jmespath.ASTProjection), int64(jmespath.ASTValueProjection), int64(jmespath.ASTFilterProjection):
			n = n.child(0)
		default:
			return "", false
		}
	}
}

// then combines the estimates of two expressions, the second of which is applied to the first's result.
func (c estimate) then(next estimate) estimate {
	return estimate{c.size * next.size, c.once + next.once, c.each + c.size*next.each, c.text + c.size*next.text}
}

// forEach combines the estimates of two expressions, the second of which is applied to each item of the first's result.
func (c estimate) forEach(item estimate) estimate {
	item.size = max(item.size, 1)
	item.each += item.once + 1
	item.once = 0
	return c.then(item)
}

// and combines the estimates of two expressions that are applied to the same input.
func (c estimate) and(other estimate) estimate {
	return estimate{c.size + other.size, c.once + other.once, c.each + other.each, c.text + other.text}
}

// touched adds a step for each value of the result.
func (c estimate) touched() estimate {
	c.each += c.size
	return c
}

func estimateOf(n node, total float64) estimate {
	of := func(i int) estimate { return estimateOf(n.child(i), total) }
	switch n.kind() {
	case int64(jmespath.ASTLiteral):
		text := fmt.Sprint(n.v.FieldByName("value")) // is at least as long as a literal has values and bytes of text
		return estimate{size: float64(1 + len(text)), once: 1}
	case int64(jmespath.ASTSubexpression), int64(jmespath.ASTIndexExpression), int64(jmespath.ASTPipe),
		int64(jmespath.ASTKeyValPair), int64(jmespath.ASTExpRef):
		c := of(0)
		for i := 1; i < n.len(); i++ {
			c = c.then(of(i))
		}
		return c
	case int64(jmespath.ASTSlice):
		return estimate{size: 1, each: 1}
	case int64(jmespath.ASTFlatten):
		return of(0).touched()
	case int64(jmespath.ASTProjection):
		return of(0).forEach(of(1))
	case int64(jmespath.ASTValueProjection):
		return of(0).touched().touched().forEach(of(1))
	case int64(jmespath.ASTFilterProjection):
		item := of(1)
		size := item.size
		item = item.and(of(2))
		item.size = size
		return of(0).forEach(item)
	case int64(jmespath.ASTMultiSelectList), int64(jmespath.ASTMultiSelectHash):
		return estimateOfSelection(n, total)
	case int64(jmespath.ASTOrExpression), int64(jmespath.ASTAndExpression):
		either, or := of(0), of(1)
		c := either.and(or)
		c.size = max(either.size, or.size)
		return c
	case int64(jmespath.ASTNotExpression):
		c := of(0)
		c.size = 1
		return c
	case int64(jmespath.ASTComparator):
		c := touchedBy(n, parts(n, total))
		c.size = 1
		return c
	case int64(jmespath.ASTFunctionExpression):
		return estimateOfCall(n, total)
	}
	return estimate{size: 1, once: 1} // a part of its input
}

// estimateOfSelection returns the estimate of [a, b] or {x: a, y: b}.
func estimateOfSelection(n node, total float64) estimate {
	all := estimate{once: 2}
	if n.kind() == int64(jmespath.ASTMultiSelectHash) {
		all.once = 8 // a map costs more
	}
	fields := map[string]estimate{}
	for i := range n.len() {
		c := estimateOf(n.child(i), total)
		all.once += c.once + 1
		c.once = 0
		if name, ok := n.child(i).field(); ok {
			fields[name] = fields[name].and(c)
		} else {
			all = all.and(c)
		}
	}
	var most estimate
	for _, c := range fields {
		most = estimate{max(most.size, c.size), 0, max(most.each, c.each), max(most.text, c.text)}
	}
	all = all.and(most)
	all.size++
	return all
}

// parts returns the estimates of an expression's children. Each is computed once: twice at each level would double with the depth.
func parts(n node, total float64) []estimate {
	all := make([]estimate, n.len())
	for i := range all {
		all[i] = estimateOf(n.child(i), total)
	}
	return all
}

// touchedBy returns the estimate of all children of an expression plus a step for each of their values; a literal's bytes take none.
func touchedBy(n node, parts []estimate) (all estimate) {
	for i, e := range parts {
		if n.child(i).kind() != int64(jmespath.ASTLiteral) {
			e = e.touched()
		}
		all = all.and(e)
	}
	return all
}

// escaped is the largest factor by which a text grows in JSON.
const escaped = 6

func estimateOfCall(n node, total float64) estimate {
	of := parts(n, total)
	arguments := touchedBy(n, of)
	arguments.once += 6
	switch name := n.name(); {
	case name == "map" && n.len() == 2:
		return of[1].touched().forEach(of[0])
	case (name == "sort_by" || name == "max_by" || name == "min_by") && n.len() == 2:
		list, by := of[0], of[1]
		compares := 2 * math.Log2(2+total)
		by.size, by.once, by.each, by.text = 1, by.once*compares, by.each*compares, by.text*compares
		return list.touched().forEach(by)
	case name == "to_string":
		arguments.size *= escaped
		arguments.text += arguments.size
	case name == "join" && n.len() == 2:
		arguments.size = of[1].size * (1 + of[0].size*joint(n.child(0), total))
		arguments.text += arguments.size
	case name == "keys" || name == "values" || name == "reverse" || name == "sort" ||
		name == "merge" || name == "to_array" || name == "not_null":
	default: // a number, a boolean, or a part of an argument
		arguments.size = 1
	}
	return arguments
}

// joint returns the size of join's separator as a multiple of the input's; a literal has its own size.
func joint(n node, total float64) float64 {
	if n.kind() == int64(jmespath.ASTLiteral) {
		return 1
	}
	return total
}

// measure counts the values and the bytes of text of a document, and stops when they are more than most together. It walks v as a tree,
// because an expression can reference the same part many times.
func measure(v any, most int) (values, text int) {
	values = 1
	add := func(item any) (more bool) {
		n, bytes := measure(item, most-values-text)
		values, text = values+n, text+bytes
		return values+text <= most
	}
	switch v := v.(type) {
	case string:
		text = len(v)
	case map[string]any:
		for key, item := range v {
			if text += len(key); !add(item) {
				break
			}
		}
	case []any:
		for _, item := range v {
			if !add(item) {
				break
			}
		}
	}
	return values, text
}
