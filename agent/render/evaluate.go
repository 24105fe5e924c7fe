package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
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

// What ends a turn of a range; the parser allows them nowhere else.
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
