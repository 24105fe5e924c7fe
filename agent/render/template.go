package render

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/template/parse"
)

// Limits of a template: a mistake in one must not take the memory or the time of the pod that it is in.
const (
	maxTemplate = 64 << 10 // bytes of text
	maxOutput   = 1 << 20  // bytes of a file
	maxWork     = 4 << 20  // nodes evaluated and bytes made on the way, together
)

// A template is the language of text/template, parsed by its own parser. It is evaluated here because text/template's
// evaluator calls methods by name, which keeps every exported method of everything linked: 2.3 MB in an agent of 11. What
// a template sees is only JSON, so this evaluator needs no reflection either, and it can hold what files of secrets
// need: nothing absent or null is ever printed, numbers stay as they were written, and no error has a value in it.
type template struct {
	text string
	tree *parse.Tree
}

// renderTemplate renders a template. A value that is a JSON object or array is that in the template, any other is a string.
// The root has the values by their aliases, or is the value if there is one without. A key that does not exist is an error
// that names it and those that exist; values are in no error.
func renderTemplate(text string, inputs []Input) ([]byte, error) {
	t, err := parseTemplate(text)
	if err != nil {
		return nil, err
	}
	if len(inputs) == 1 && inputs[0].Alias == "" {
		return t.execute(inputs[0].value())
	}
	root := make(map[string]any, len(inputs))
	for _, in := range inputs {
		root[in.Alias] = in.value()
	}
	return t.execute(root)
}

func (in Input) value() any {
	if !in.Binary {
		switch doc, _ := Decode(in.Data); doc.(type) {
		case map[string]any, []any:
			return doc
		}
	}
	return string(in.Data)
}

// CheckTemplate reports what is wrong with a template, without secrets to try it on.
func CheckTemplate(text string) error {
	_, err := parseTemplate(text)
	return err
}

func parseTemplate(text string) (*template, error) {
	if len(text) > maxTemplate {
		return nil, fmt.Errorf("the template has %d bytes; at most %d are allowed", len(text), maxTemplate)
	}
	if _, err := Actions(text); err != nil {
		return nil, err
	}
	tree := parse.New("template")
	tree.Mode = parse.SkipFuncCheck // check says it better
	trees := map[string]*parse.Tree{}
	if _, err := tree.Parse(text, "", "", trees); err != nil {
		return nil, errors.New(strings.Replace(err.Error(), "template: template:", "template line ", 1))
	}
	t := &template{text, tree}
	if len(trees) > 1 || len(trees) == 1 && trees["template"] == nil {
		return nil, errNested
	}
	return t, t.check(tree.Root)
}

var errNested = errors.New("define, block and template are not available: a file is one template")

// at says where in the template something is wrong.
func (t *template) at(n parse.Node, err error) error {
	line := 1 + strings.Count(t.text[:min(int(n.Position()), len(t.text))], "\n")
	const most = 80
	source := n.String()
	if len(source) > most {
		source = strings.ToValidUTF8(source[:most], "") + "…"
	}
	return fmt.Errorf("template line %d: %s: %w", line, strings.ReplaceAll(source, "\n", " "), err)
}

// check finds, before any secret is there, all that can be found then.
func (t *template) check(n parse.Node) error {
	switch n := n.(type) {
	case *parse.ListNode:
		if n == nil { // no else
			return nil
		}
		for _, child := range n.Nodes {
			if err := t.check(child); err != nil {
				return err
			}
		}
	case *parse.ActionNode:
		return t.check(n.Pipe)
	case *parse.IfNode:
		return t.checkBranch(&n.BranchNode)
	case *parse.WithNode:
		return t.checkBranch(&n.BranchNode)
	case *parse.RangeNode:
		return t.checkBranch(&n.BranchNode)
	case *parse.PipeNode:
		for i, command := range n.Cmds {
			if err := t.checkCommand(command, i > 0); err != nil {
				return err
			}
		}
	case *parse.ChainNode:
		return t.check(n.Node)
	case *parse.IdentifierNode:
		if err := checkCall(n.Ident, 0); err != nil {
			return t.at(n, err)
		}
	case *parse.NumberNode:
		if !json.Valid([]byte(n.Text)) { // Go also takes characters, and other ways to write numbers
			return t.at(n, errors.New("write numbers as JSON does, for example 10 or 1.5"))
		}
	case *parse.TemplateNode:
		return t.at(n, errNested)
	}
	return nil
}

func (t *template) checkBranch(b *parse.BranchNode) error {
	for _, part := range []parse.Node{b.Pipe, b.List, b.ElseList} {
		if err := t.check(part); err != nil {
			return err
		}
	}
	return nil
}

func (t *template) checkCommand(command *parse.CommandNode, piped bool) error {
	arguments := command.Args
	given := len(arguments) - 1
	if piped {
		given++
	}
	if name, ok := arguments[0].(*parse.IdentifierNode); ok {
		if err := checkCall(name.Ident, given); err != nil {
			return t.at(command, err)
		}
		arguments = arguments[1:]
	} else if given > 0 {
		return t.at(command, fmt.Errorf("%s is not a function and takes no arguments", arguments[0]))
	}
	for _, argument := range arguments {
		if err := t.check(argument); err != nil {
			return err
		}
	}
	return nil
}

// MaxActions is how many bytes of actions, which are between {{ and }}, a template may have, and all templates of a pod together: their
// parser takes up to a hundred times as much memory.
const MaxActions = 24 << 10

// Actions counts the bytes of a template between {{ and }}. It returns an error if there are more than MaxActions.
func Actions(template string) (n int, err error) {
	for {
		_, rest, found := strings.Cut(template, "{{")
		if !found {
			return n, nil
		}
		length := actionLength(rest)
		if n += length; n > MaxActions {
			return n, fmt.Errorf("the template has more than %d bytes between {{ and }}", MaxActions)
		}
		template = rest[length:]
	}
}

// actionLength returns the length of what follows {{, with its }}; quoted text and comments may have one in them. An action that is not
// valid has no end.
func actionLength(text string) int {
	for i := 0; i < len(text); i++ {
		rest := text[i:]
		switch {
		case strings.HasPrefix(rest, "}}"):
			return i + len("}}")
		case strings.HasPrefix(rest, "/*"):
			comment, _, _ := strings.Cut(rest[2:], "*/")
			i += len(comment) + 3
		case strings.ContainsAny(rest[:1], "\"'`"):
			quoted, err := strconv.QuotedPrefix(rest)
			if err != nil {
				return len(text)
			}
			i += len(quoted) - 1
		}
	}
	return len(text)
}
