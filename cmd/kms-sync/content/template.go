package content

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
	"unicode"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kms-agent-injector/kms-agent-injector/agent/render"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
)

// Limits of an object's templates, all of them together: a tenant's mistake must not take the controller away from the others.
const (
	maxTemplate = 64 << 10 // bytes of text
	maxWork     = 4 << 20  // nodes evaluated and bytes handled on the way
	nodesOfText = 80       // whose work is that of parsing and starting a template, however short
	maxErrors   = 50
)

// template puts the templates' results into the Secret.
func (r *renderer) template(result *Result) {
	t := r.es.Spec.Target.Template
	if t == nil {
		return
	}
	e := newEngine(r.compat)
	dot := make(map[string]any, len(r.data))
	for key, value := range r.data {
		dot[key] = string(value)
	}
	made := func(texts map[string]string, field string, check func(key, value string) error) map[string]string {
		results := map[string]string{}
		for _, key := range slices.Sorted(maps.Keys(texts)) {
			e.hashes = hashes{values: dot}
			if field == "data" {
				e.hashes.present = func() []byte { return r.present(key) }
			}
			text, err := e.render(texts[key], dot)
			if err == nil {
				err = check(key, text)
			}
			if err == nil {
				results[key] = text
			} else if !r.compat.FailedTemplates {
				r.errs = append(r.errs, EntryError{Err: fmt.Errorf("target.template.%s[%s]: %w", field, excerpt(key), err)})
			}
			if errors.Is(err, tooMuch) || len(r.errs) >= maxErrors { // so would the others be, and longer texts are not read
				break
			}
		}
		return results
	}
	data := made(t.Data, "data", func(key, _ string) error { return named(keyProblem(key)) })
	result.Labels = made(t.Metadata.Labels, "metadata.labels", labelProblem)
	result.Annotations = made(t.Metadata.Annotations, "metadata.annotations", annotationProblem)
	if len(t.Data) > 0 && t.MergePolicy != mergePolicyMerge {
		result.Data = map[string][]byte{}
	}
	for key, text := range data {
		result.Data[key] = []byte(text)
	}
}

// The merge policies.
const (
	mergePolicyReplace = "Replace"
	mergePolicyMerge   = "Merge"
)

func named(problem string) error {
	if problem == "" {
		return nil
	}
	return errors.New("the name " + problem)
}

func labelProblem(key, value string) error {
	if err := metadataProblem(key); err != nil {
		return err
	}
	if len(validation.IsValidLabelValue(value)) > 0 {
		return errors.New("the result is no value of a label: at most 63 letters, digits and - _ . in it; an annotation takes any text")
	}
	return nil
}

func annotationProblem(key, value string) error {
	const most = 256 << 10
	if len(value) > most {
		return fmt.Errorf("the result has %d bytes; Kubernetes allows all annotations of an object %d", len(value), most)
	}
	return metadataProblem(key)
}

func metadataProblem(key string) error {
	if problem := Reserved(key); problem != "" {
		return errors.New(problem)
	}
	if problems := validation.IsQualifiedName(strings.ToLower(key)); len(problems) > 0 {
		return errors.New("the name is not allowed by Kubernetes: " + problems[0])
	}
	return nil
}

// checkTemplates reports what is wrong with templates, without values to try them on.
func checkTemplates(t *v1alpha1.Template, report func(field, problem string)) {
	e := newEngine(Compat{})
	check := func(texts map[string]string, field string, name func(string) error) {
		for _, key := range slices.Sorted(maps.Keys(texts)) {
			at := fmt.Sprintf("spec.target.template.%s[%s]", field, excerpt(key))
			if err := name(key); err != nil {
				report(at, err.Error())
			}
			if _, err := e.parse(texts[key]); err != nil {
				report(at, err.Error())
			}
		}
	}
	check(t.Data, "data", func(key string) error { return named(keyProblem(key)) })
	check(t.Metadata.Labels, "metadata.labels", metadataProblem)
	check(t.Metadata.Annotations, "metadata.annotations", metadataProblem)
}

// An engine renders the templates of one object: text/template, with what is not hermetic left out of its functions, and with calls put
// between the actions of each template that count the work.
type engine struct {
	compat        Compat
	functions     template.FuncMap
	hashes        hashes // of the template that is rendered
	work, actions int
}

func newEngine(compat Compat) *engine {
	e := &engine{compat: compat}
	e.functions = e.table()
	return e
}

// A problem is an error that has no value in it.
type problem string

func (p problem) Error() string { return string(p) }

const tooMuch = problem("the templates do too much: are there ranges in ranges, or texts made of texts?")

func (e *engine) spend(work int) error {
	if work < 0 || work > maxWork-e.work {
		e.work = maxWork
		return tooMuch
	}
	e.work += work
	return nil
}

// render renders one template.
func (e *engine) render(text string, dot map[string]any) (result string, err error) {
	t, err := e.parse(text)
	if err != nil {
		return "", err
	}
	defer func() {
		if recover() != nil {
			result, err = "", problem("the template cannot be executed")
		}
	}()
	if err := e.spend(len(dot)); err != nil {
		return "", err
	}
	e.hashes.text = text
	out := output{engine: e}
	if err := t.Execute(&out, maps.Clone(dot)); err != nil { // a template may set keys of its own
		return "", explain(err, dot)
	}
	return out.String(), e.hashes.check(out.String())
}

// output takes no more than a Secret may have.
type output struct {
	strings.Builder
	engine *engine
}

func (o *output) Write(p []byte) (int, error) {
	if o.Len()+len(p) > MaxSize {
		return 0, problem(fmt.Sprintf("the result has more than the %d bytes that Kubernetes allows", MaxSize))
	}
	if err := o.engine.spend(len(p)); err != nil {
		return 0, err
	}
	return o.Builder.Write(p)
}

func (e *engine) parse(text string) (*template.Template, error) {
	if len(text) > maxTemplate {
		return nil, fmt.Errorf("the template has %d bytes; at most %d are allowed", len(text), maxTemplate)
	}
	n, err := render.Actions(text)
	if err != nil {
		return nil, err
	}
	if e.actions += n; e.actions > render.MaxActions {
		return nil, fmt.Errorf("the templates have more than %d bytes between {{ and }} together", render.MaxActions)
	}
	option := "missingkey=error"
	if e.compat.MissingTemplateKeys {
		option = "missingkey=default"
	}
	t, err := template.New(templateName).Option(option).Funcs(e.named(text)).Parse(text)
	if err != nil {
		return nil, parseError(err)
	}
	for _, defined := range t.Templates() {
		if defined.Tree != nil {
			m := meter{text: text}
			m.list(defined.Root)
			if m.err != nil {
				return nil, m.err
			}
			defined.Root.Nodes = append([]parse.Node{tick(nodesOfText+m.nodes, 0)}, defined.Root.Nodes...)
		}
	}
	return t, nil
}

// named returns the functions that a text may call: the library copies each that it is given.
func (e *engine) named(text string) template.FuncMap {
	functions := template.FuncMap{}
	add := func(name string) {
		if function, ok := e.functions[name]; ok {
			functions[name] = function
		}
	}
	for name := range strings.FieldsFuncSeq(text, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		add(name)
	}
	for _, name := range []string{tickCall, printCall, itemsCall, weighCall} {
		add(name)
	}
	return functions
}

// templateName is what the library calls the template in its messages.
const templateName = "template"

var notDefined = regexp.MustCompile(`^template: template:(\d+): function "(.*)" not defined$`)

func parseError(err error) error {
	if m := notDefined.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Errorf("line %s: %w", m[1], unknown(m[2]))
	}
	return errors.New(strings.Replace(err.Error(), "template: template:", "line ", 1))
}

var (
	executing = regexp.MustCompile(`(?s)^template: template:(\d+):\d+: executing ".*?" at <(.*?)>: (.*)$`)
	noEntry   = regexp.MustCompile(`^map has no entry for key (".*")$`)
	weighed   = regexp.MustCompile(`\(` + weighCall + ` ([^()]*)\)`)
	calling   = regexp.MustCompile(`(?s)^error calling (\w+): `)
)

// harmless are the library's errors that have names and types in them, and no values.
var harmless = []string{"can't evaluate field ", "wrong type for value; ", "wrong number of args for ", "nil pointer evaluating ",
	"exceeded maximum template depth", "nil data; no entry for key ", "can't give argument to non-function ", "nil is not a command"}

// explain makes an error of text/template one that teaches and holds no value.
func explain(err error, dot map[string]any) error {
	m := executing.FindStringSubmatch(err.Error())
	var ours problem
	known := errors.As(err, &ours)
	switch {
	case m == nil && known:
		return ours
	case m == nil:
		return problem("the template cannot be executed")
	}
	at := "line " + m[1]
	source := weighed.ReplaceAllString(strings.ReplaceAll(m[2], " | "+printCall, ""), "$1")
	if source != "" && !strings.Contains(source, internalCalls) {
		at += ": " + clip(source)
	}
	reason := m[3]
	absent, called := noEntry.FindStringSubmatch(reason), calling.FindStringSubmatch(reason)
	switch {
	case known:
		return fmt.Errorf("%s: %w", at, ours)
	case absent != nil:
		return fmt.Errorf(`%s: key %s does not exist; the keys that were read are %s; for one that may be absent: {{ get . %s | default "…" }}`,
			at, absent[1], render.Names(dot), absent[1])
	case called != nil:
		return fmt.Errorf("%s: function %s cannot be applied to these values", at, called[1])
	case slices.ContainsFunc(harmless, func(p string) bool { return strings.HasPrefix(reason, p) }):
		return fmt.Errorf("%s: %s", at, reason)
	}
	return fmt.Errorf("%s: it cannot be applied to these values", at)
}

// A meter puts calls between the actions of a template: before the body of each loop, after what is printed and ranged over, and around
// what is compared.
type meter struct {
	text  string
	nodes int
	err   error
}

// The calls. No tenant's function has such a name.
const (
	internalCalls = "kms__"
	tickCall      = internalCalls + "tick"
	printCall     = internalCalls + "print"
	itemsCall     = internalCalls + "items"
	weighCall     = internalCalls + "weigh"
)

func command(pos parse.Pos, name string, arguments ...parse.Node) *parse.CommandNode {
	call := parse.NewIdentifier(name).SetPos(pos)
	return &parse.CommandNode{NodeType: parse.NodeCommand, Pos: pos, Args: append([]parse.Node{call}, arguments...)}
}

func pipe(pos parse.Pos, c *parse.CommandNode) *parse.PipeNode {
	return &parse.PipeNode{NodeType: parse.NodePipe, Pos: pos, Cmds: []*parse.CommandNode{c}}
}

func tick(nodes int, pos parse.Pos) parse.Node {
	n := &parse.NumberNode{NodeType: parse.NodeNumber, Pos: pos, IsInt: true, Int64: int64(nodes), Text: fmt.Sprint(nodes)}
	return &parse.ActionNode{NodeType: parse.NodeAction, Pos: pos, Pipe: pipe(pos, command(pos, tickCall, n))}
}

func (m *meter) list(list *parse.ListNode) {
	if list == nil {
		return
	}
	for _, n := range list.Nodes {
		m.nodes++
		switch n := n.(type) {
		case *parse.ActionNode:
			m.pipe(n.Pipe)
			if len(n.Pipe.Decl) == 0 {
				n.Pipe.Cmds = append(n.Pipe.Cmds, command(n.Pos, printCall))
			}
		case *parse.IfNode:
			m.branch(&n.BranchNode)
		case *parse.WithNode:
			m.branch(&n.BranchNode)
		case *parse.RangeNode:
			before := m.nodes
			m.branch(&n.BranchNode)
			n.Pipe.Cmds = append(n.Pipe.Cmds, command(n.Pos, itemsCall))
			n.List.Nodes = append([]parse.Node{tick(m.nodes-before+1, n.Pos)}, n.List.Nodes...)
		case *parse.TemplateNode:
			m.pipe(n.Pipe)
		}
	}
}

func (m *meter) branch(b *parse.BranchNode) {
	m.pipe(b.Pipe)
	m.list(b.List)
	m.list(b.ElseList)
}

func (m *meter) pipe(p *parse.PipeNode) {
	if p == nil {
		return
	}
	var commands []*parse.CommandNode
	for i, c := range p.Cmds {
		compares := m.command(c)
		if compares && i > 0 {
			commands = append(commands, command(c.Pos, weighCall))
		}
		commands = append(commands, c)
	}
	p.Cmds = commands
}

// command reports whether a command is a comparison, whose arguments are weighed.
func (m *meter) command(c *parse.CommandNode) bool {
	for _, n := range c.Args {
		m.nodes++
		m.argument(n)
		if name, ok := n.(*parse.IdentifierNode); ok && m.err == nil {
			if err := refusal(name.Ident); err != nil {
				line := 1 + strings.Count(m.text[:min(int(n.Position()), len(m.text))], "\n")
				m.err = fmt.Errorf("line %d: %w", line, err)
			}
		}
	}
	name, ok := c.Args[0].(*parse.IdentifierNode)
	compares := ok && slices.Contains([]string{"eq", "ne", "lt", "le", "gt", "ge"}, name.Ident)
	if compares {
		for i := 1; i < len(c.Args); i++ {
			pos := c.Args[i].Position()
			c.Args[i] = pipe(pos, command(pos, weighCall, c.Args[i]))
		}
	}
	return compares
}

func (m *meter) argument(n parse.Node) {
	switch n := n.(type) {
	case *parse.PipeNode:
		m.pipe(n)
	case *parse.ChainNode:
		m.nodes++
		m.argument(n.Node)
	}
}
