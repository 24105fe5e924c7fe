package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/template/parse"
)

// evaluation is one run of a template. Values are those of JSON: string, json.Number, bool, []any, map[string]any, nil.
type evaluation struct {
	*template
	out       bytes.Buffer
	variables []variable
	work      int
}

type variable struct {
	name  string
	value any
}

// break and continue end an iteration of range; the parser allows them nowhere else.
var errBreak, errContinue = errors.New("break"), errors.New("continue")

// execute renders the template with root as its dot.
func (t *template) execute(root any) ([]byte, error) {
	e := &evaluation{template: t, variables: []variable{{"$", root}}}
	if err := e.list(root, t.tree.Root); err != nil {
		return nil, err
	}
	return e.out.Bytes(), nil
}

func (e *evaluation) spend(n parse.Node, work int) error {
	if e.work += work; e.work > maxWork {
		return e.at(n, errors.New("the template does too much; are there ranges in ranges?"))
	}
	return nil
}

func (e *evaluation) print(n parse.Node, text string) error {
	if e.out.Len()+len(text) > maxOutput {
		return e.at(n, fmt.Errorf("the file would have more than %d bytes", maxOutput))
	}
	e.out.WriteString(text)
	return nil
}

func (e *evaluation) list(dot any, list *parse.ListNode) error {
	if list == nil { // no else
		return nil
	}
	for _, n := range list.Nodes {
		if err := e.node(dot, n); err != nil {
			return err
		}
	}
	return nil
}

func (e *evaluation) node(dot any, n parse.Node) error {
	if err := e.spend(n, 1); err != nil {
		return err
	}
	switch n := n.(type) {
	case *parse.TextNode:
		return e.print(n, string(n.Text))
	case *parse.ActionNode:
		return e.action(dot, n)
	case *parse.IfNode:
		return e.branch(dot, &n.BranchNode)
	case *parse.WithNode:
		return e.branch(dot, &n.BranchNode)
	case *parse.RangeNode:
		return e.loop(dot, n)
	case *parse.BreakNode:
		return errBreak
	case *parse.ContinueNode:
		return errContinue
	}
	return nil
}

func (e *evaluation) action(dot any, n *parse.ActionNode) error {
	value, err := e.pipe(dot, n.Pipe)
	if err != nil || len(n.Pipe.Decl) > 0 {
		return err
	}
	text, err := scalar(value)
	if err != nil {
		return e.at(n, err)
	}
	return e.print(n, text)
}

// branch is if, and with, whose list has another dot. Variables end with it.
func (e *evaluation) branch(dot any, b *parse.BranchNode) error {
	defer e.forget(len(e.variables))
	value, err := e.pipe(dot, b.Pipe)
	switch {
	case err != nil:
		return err
	case !truth(value):
		return e.list(dot, b.ElseList)
	case b.NodeType == parse.NodeWith:
		return e.list(value, b.List)
	}
	return e.list(dot, b.List)
}

func (e *evaluation) forget(mark int) { e.variables = e.variables[:mark] }

// loop is range. An object's keys come sorted.
func (e *evaluation) loop(dot any, r *parse.RangeNode) error {
	defer e.forget(len(e.variables))
	value, err := e.commands(dot, r.Pipe)
	if err != nil {
		return err
	}
	var keys, items []any
	switch v := value.(type) {
	case []any:
		items = v
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			keys, items = append(keys, key), append(items, v[key])
		}
	default:
		return e.at(r.Pipe, fmt.Errorf("range needs a list or an object, and this is %s", kind(value)))
	}
	if len(items) == 0 {
		e.declare(r.Pipe, value, value)
		return e.list(dot, r.ElseList)
	}
	mark := len(e.variables)
	for i, item := range items {
		if err := e.spend(r, 1); err != nil { // the body may be empty
			return err
		}
		key := any(json.Number(strconv.Itoa(i)))
		if keys != nil {
			key = keys[i]
		}
		e.declare(r.Pipe, key, item)
		err := e.list(item, r.List)
		e.forget(mark)
		switch {
		case errors.Is(err, errBreak):
			return nil
		case err != nil && !errors.Is(err, errContinue):
			return err
		}
	}
	return nil
}

// pipe evaluates a pipeline, and keeps the value in the variables that it declares or assigns.
func (e *evaluation) pipe(dot any, pipe *parse.PipeNode) (any, error) {
	value, err := e.commands(dot, pipe)
	if err == nil {
		e.declare(pipe, value, value)
	}
	return value, err
}

// declare gives a pipeline's variables their value: one takes the item, two the key and the item.
func (e *evaluation) declare(pipe *parse.PipeNode, key, item any) {
	values := []any{item}
	if len(pipe.Decl) == 2 {
		values = []any{key, item}
	}
	for i, d := range pipe.Decl {
		if pipe.IsAssign {
			*e.variable(d.Ident[0]) = values[i]
		} else {
			e.variables = append(e.variables, variable{d.Ident[0], values[i]})
		}
	}
}

// variable finds the innermost; the parser has made sure that there is one.
func (e *evaluation) variable(name string) *any {
	for i := len(e.variables) - 1; i > 0; i-- {
		if e.variables[i].name == name {
			return &e.variables[i].value
		}
	}
	return &e.variables[0].value
}

func (e *evaluation) commands(dot any, pipe *parse.PipeNode) (any, error) {
	var value any
	for i, command := range pipe.Cmds {
		var piped []any
		if i > 0 {
			piped = []any{value}
		}
		var err error
		if value, err = e.command(dot, command, piped); err != nil {
			return nil, err
		}
	}
	return value, nil
}

// command calls a function, with the value of the command before as its last argument, or is an operand.
func (e *evaluation) command(dot any, command *parse.CommandNode, piped []any) (any, error) {
	name, ok := command.Args[0].(*parse.IdentifierNode)
	if !ok {
		return e.operand(dot, command.Args[0])
	}
	arguments := make([]any, 0, len(command.Args))
	for _, n := range command.Args[1:] {
		value, err := e.operand(dot, n)
		if err != nil {
			return nil, err
		}
		if name.Ident == "and" && !truth(value) || name.Ident == "or" && truth(value) {
			return value, nil // the rest is not evaluated, as in Go
		}
		arguments = append(arguments, value)
	}
	arguments = append(arguments, piped...)
	call := functions[name.Ident].call
	if call == nil { // and, or: the last decides
		return arguments[len(arguments)-1], nil
	}
	value, err := call(arguments)
	if err != nil {
		return nil, e.at(command, err)
	}
	return value, e.spend(command, cost(value, arguments))
}

// cost returns the work of a call: the bytes of the text that it returned or, for other results, of its arguments.
func cost(value any, arguments []any) int {
	if text, ok := value.(string); ok {
		return len(text)
	}
	bytes := 0
	for _, argument := range arguments {
		if text, ok := argument.(string); ok {
			bytes += len(text)
		}
	}
	return bytes
}

func (e *evaluation) operand(dot any, n parse.Node) (any, error) {
	if err := e.spend(n, 1); err != nil {
		return nil, err
	}
	switch n := n.(type) {
	case *parse.DotNode:
		return dot, nil
	case *parse.FieldNode:
		return e.walk(n, dot, n.Ident)
	case *parse.VariableNode:
		return e.walk(n, *e.variable(n.Ident[0]), n.Ident[1:])
	case *parse.ChainNode:
		value, err := e.operand(dot, n.Node)
		if err != nil {
			return nil, err
		}
		return e.walk(n, value, n.Field)
	case *parse.PipeNode:
		return e.pipe(dot, n)
	case *parse.StringNode:
		return n.Text, nil
	case *parse.NumberNode:
		return json.Number(n.Text), nil
	case *parse.BoolNode:
		return n.True, nil
	}
	return nil, nil // nil
}

// walk follows keys.
func (e *evaluation) walk(n parse.Node, value any, keys []string) (any, error) {
	for i, key := range keys {
		object, ok := value.(map[string]any)
		if !ok {
			return nil, e.at(n, fmt.Errorf("%s has no keys, it is %s", before(keys, i), kind(value)))
		}
		if value, ok = object[key]; !ok {
			return nil, e.at(n, fmt.Errorf("key %q does not exist; %s has %s", key, before(keys, i), Names(object)))
		}
	}
	return value, nil
}

// before names what a key was looked for in.
func before(keys []string, i int) string {
	if i == 0 {
		return "the value"
	}
	return "." + strings.Join(keys[:i], ".")
}
