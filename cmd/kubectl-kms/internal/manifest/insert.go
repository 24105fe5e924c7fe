package manifest

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// A cut is a range of the text and its replacement. Most ranges are empty: they are insertions.
type cut struct {
	from, to int
	by       string
}

// An editor inserts the new nodes of a tree into the text from which the other nodes were parsed. It works with positions only; its caller
// parses the edited text again and compares the result.
type editor struct {
	text     []byte
	lines    []int         // offset of each, and of the end
	columns  map[int][]int // by line: offset of each, as far as they were asked for
	eol      string
	json     bool
	step     int // columns by which the author indents
	compact  bool
	blank    bool // blank lines belong to the value above them: a block scalar that keeps them (|+)
	replaced map[*yaml.Node]*yaml.Node
	cuts     []cut
}

// splice returns the document's text with the new nodes of its tree.
func splice(d *Document, tree *yaml.Node, replaced map[*yaml.Node]*yaml.Node, blank bool) []byte {
	e := &editor{text: d.text, lines: []int{0}, columns: map[int][]int{}, eol: "\n", json: d.json, blank: blank, replaced: replaced}
	e.step, e.compact = step(tree), compact(tree)
	for _, at := range linebreak.FindAllIndex(d.text, -1) {
		e.lines = append(e.lines, at[1])
	}
	if i := bytes.IndexByte(d.text, '\n'); i > 0 && d.text[i-1] == '\r' {
		e.eol = "\r\n"
	}
	e.walk(tree.Content[0], len(d.text))
	slices.SortStableFunc(e.cuts, func(a, b cut) int { return a.from - b.from })
	var out []byte
	at := 0
	for _, c := range e.cuts {
		if c.from < at || c.to < c.from || c.to > len(e.text) {
			return nil
		}
		out = append(append(out, e.text[at:c.from]...), c.by...)
		at = c.to
	}
	return append(out, e.text[at:]...)
}

// linebreak matches YAML's line breaks.
var linebreak = regexp.MustCompile("\r\n|[\r\n\u0085\u2028\u2029]")

// offset returns the offset of a node.
func (e *editor) offset(n *yaml.Node) int {
	if n.Line < 1 || n.Line > len(e.lines) || n.Column < 1 {
		return len(e.text)
	}
	columns := e.columns[n.Line]
	if columns == nil {
		columns = []int{e.lines[n.Line-1]}
		if n.Line == 1 && bytes.HasPrefix(e.text, []byte("\ufeff")) {
			columns[0] += len("\ufeff")
		}
	}
	for len(columns) < n.Column {
		last := columns[len(columns)-1]
		_, size := utf8.DecodeRune(e.text[last:])
		columns = append(columns, last+size)
	}
	e.columns[n.Line] = columns
	return columns[n.Column-1]
}

// lineOf returns the index of the line that contains an offset.
func (e *editor) lineOf(at int) int {
	i, found := slices.BinarySearch(e.lines, at)
	if found {
		return i
	}
	return i - 1
}

// walk inserts the new nodes below an old one, which ends at limit or before.
func (e *editor) walk(n *yaml.Node, limit int) {
	stride := 1
	if n.Kind == yaml.MappingNode {
		stride = 2
	}
	var fresh []*yaml.Node
	for i := 0; i+stride <= len(n.Content); i += stride {
		entry := n.Content[i : i+stride]
		if entry[0].Line == 0 {
			fresh = append(fresh, entry...)
			continue
		}
		if fresh != nil {
			e.insert(n, fresh, entry[0], limit)
			fresh = nil
		}
		next := limit
		for j := i + stride; j < len(n.Content); j += stride {
			if n.Content[j].Line > 0 {
				next = e.offset(n.Content[j])
				break
			}
		}
		switch value := entry[stride-1]; {
		case value.Line == 0:
			e.replace(n, entry[0], value, e.replaced[value])
		case !flow(n) && flow(value) && len(value.Content) > 0 && value.Content[0].Line == 0 && old(value) == nil: // [] or {}
			block := *value
			block.Style = 0
			e.replace(n, entry[0], &block, value)
		default:
			e.walk(value, next)
		}
	}
	if fresh != nil {
		e.insert(n, fresh, nil, limit)
	}
}

func flow(n *yaml.Node) bool { return n.Style&yaml.FlowStyle != 0 }

// old returns the last node below a node that is not new.
func old(n *yaml.Node) *yaml.Node {
	for _, child := range slices.Backward(n.Content) {
		if child.Line > 0 {
			return child
		}
	}
	return nil
}

// insert inserts new entries of a mapping or sequence before an old entry, or at the end.
func (e *editor) insert(n *yaml.Node, fresh []*yaml.Node, before *yaml.Node, limit int) {
	entries := &yaml.Node{Kind: n.Kind, Content: fresh}
	if flow(n) {
		e.insertFlow(n, entries, before)
		return
	}
	if before != nil {
		limit = e.offset(before)
	}
	indent := e.indent(n)
	at := e.tail(limit, indent)
	text := e.block(entries, indent)
	if at > 0 && !strings.HasSuffix(string(e.text[:at]), "\n") { // the last line has no line break
		text = e.eol + strings.TrimSuffix(text, e.eol)
	}
	e.cuts = append(e.cuts, cut{at, at, text})
}

// indent returns the column of a block's keys or dashes.
func (e *editor) indent(n *yaml.Node) int {
	i := slices.IndexFunc(n.Content, func(child *yaml.Node) bool { return child.Line > 0 })
	if i < 0 {
		return 0
	}
	at := e.offset(n.Content[i])
	if n.Kind == yaml.SequenceNode {
		at = max(bytes.LastIndexByte(e.text[:at], '-'), 0)
	}
	return utf8.RuneCount(e.text[e.lines[e.lineOf(at)]:at])
}

// aside matches lines without content: blank lines, comments, dashes whose item begins below, and the document's end.
var aside = regexp.MustCompile(`^( *)(#.*|-[ \t]*(#.*)?|\.\.\.([ \t].*)?)?[ \t]*$`)

// tail returns the offset for new entries of a node that ends at limit or before: below its last line, above comments that are not
// indented more than it.
func (e *editor) tail(limit, indent int) int {
	line := e.lineOf(limit)
	if limit == len(e.text) && limit > e.lines[line] {
		line++
	}
	for ; line > 0; line-- {
		end := len(e.text)
		if line < len(e.lines) {
			end = e.lines[line]
		}
		m := aside.FindSubmatch(bytes.TrimRight(e.text[e.lines[line-1]:end], "\r\n"))
		if len(m) == 0 || len(m[2]) > 0 && len(m[1]) > indent || len(m[2]) == 0 && e.blank {
			return end
		}
	}
	return 0
}

// block returns a node in block style, with every line indented.
func (e *editor) block(n *yaml.Node, indent int) string {
	text, err := encode(n, e.step, e.compact)
	if err != nil {
		return ""
	}
	var out strings.Builder
	for line := range bytes.Lines(text) {
		out.WriteString(strings.Repeat(" ", indent) + strings.TrimSuffix(string(line), "\n") + e.eol)
	}
	return out.String()
}

// replace replaces null or an empty list by a value on lines of its own.
func (e *editor) replace(n, key, value, was *yaml.Node) {
	if was == nil {
		return
	}
	from := e.offset(was)
	to := from + len(was.Value)
	if flow(was) {
		to, _ = e.end(was)
	}
	if flow(n) || n.Kind != yaml.MappingNode {
		text := e.inline(value, "", "")
		if from > 0 && e.text[from-1] == ':' && !e.json {
			text = " " + text
		}
		e.cuts = append(e.cuts, cut{from, to, text})
		return
	}
	for from < to && from > 0 && e.text[from-1] == ' ' {
		from--
	}
	indent := e.indent(n)
	text := e.block(&yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: key.Value}, value}}, indent)
	_, text, _ = strings.Cut(text, e.eol)
	at := len(e.text)
	if line := e.lineOf(to); line+1 < len(e.lines) {
		at = e.lines[line+1]
	} else {
		text = e.eol + strings.TrimSuffix(text, e.eol)
	}
	e.cuts = append(e.cuts, cut{from, to, ""}, cut{at, at, text})
}

// insertFlow inserts new entries between brackets.
func (e *editor) insertFlow(n, entries, before *yaml.Node) {
	entries.Style = yaml.FlowStyle
	bare := func(prefix, indent string) string {
		text := e.inline(entries, prefix, indent)
		return strings.TrimSpace(text[1 : len(text)-1])
	}
	if before != nil {
		at := e.offset(before)
		e.cuts = append(e.cuts, cut{at, at, bare("", "") + ", "})
		return
	}
	end, commented := e.end(n)
	if end == 0 {
		return
	}
	last := old(n)
	at := end - 1
	blank := bytes.TrimRight(e.text[:at], " \t\r\n")
	text, comma := bare("", ""), ", "
	switch {
	case last == nil:
		comma = ""
	case blank[len(blank)-1] == ',':
		comma = " "
	}
	if last != nil && !commented {
		margin := func(line int) string {
			from := e.text[e.lines[line]:]
			return string(from[:len(from)-len(bytes.TrimLeft(from, " \t"))])
		}
		closing := margin(e.lineOf(at))
		if e.lines[e.lineOf(at)]+len(closing) == at { // the bracket is on a line of its own
			lead := margin(last.Line - 1)
			text = e.eol + lead + strings.ReplaceAll(bare(closing, strings.TrimPrefix(lead, closing)), "\n", e.eol)
			comma = strings.TrimSpace(comma)
		}
		at = len(blank)
	}
	e.cuts = append(e.cuts, cut{at, at, comma + text})
}

// end returns the offset after a node in flow style, or 0, and whether there is a comment before its bracket.
func (e *editor) end(n *yaml.Node) (at int, commented bool) {
	at = e.offset(n)
	if n.Kind == yaml.ScalarNode {
		quote := map[yaml.Style]byte{yaml.DoubleQuotedStyle: '"', yaml.SingleQuotedStyle: '\''}[n.Style&^yaml.TaggedStyle]
		open := bytes.IndexByte(e.text[at:], quote)
		if quote == 0 || open < 0 {
			return at, false
		}
		for at += open + 1; at < len(e.text); at++ {
			switch {
			case quote == '"' && e.text[at] == '\\', quote == '\'' && bytes.HasPrefix(e.text[at:], []byte("''")):
				at++
			case e.text[at] == quote:
				return at + 1, false
			}
		}
		return at, false
	}
	brackets := "[]"
	if n.Kind == yaml.MappingNode {
		brackets = "{}"
	}
	if last := old(n); last != nil {
		at, _ = e.end(last)
	} else if open := bytes.IndexByte(e.text[at:], brackets[0]); open >= 0 {
		at += open + 1
	}
	for ; at < len(e.text); at++ {
		switch {
		case e.text[at] == brackets[1]:
			return at + 1, commented
		case e.text[at] == '#' && bytes.ContainsAny(e.text[at-1:at], " \t\r\n"):
			commented = true
			if i := bytes.IndexByte(e.text[at:], '\n'); i >= 0 {
				at += i
			}
		}
	}
	return 0, false
}

// inline returns a node in flow style, in JSON for JSON, and on several lines if there is an indent.
func (e *editor) inline(n *yaml.Node, prefix, indent string) string {
	if !e.json {
		n.Style |= yaml.FlowStyle
		text, err := encode(n, e.step, e.compact)
		if err != nil {
			return "[]"
		}
		return strings.TrimSuffix(string(text), "\n")
	}
	text := toJSON(n)
	if indent == "" {
		return string(text)
	}
	var out bytes.Buffer
	if json.Indent(&out, text, prefix, indent) != nil {
		return string(text)
	}
	return out.String()
}

// toJSON encodes a node that was decoded from JSON, and keeps its order.
func toJSON(n *yaml.Node) []byte {
	switch n.Kind {
	case yaml.MappingNode, yaml.SequenceNode:
		brackets := "[]"
		if n.Kind == yaml.MappingNode {
			brackets = "{}"
		}
		out := []byte{brackets[0]}
		for i, child := range n.Content {
			switch {
			case n.Kind == yaml.MappingNode && i%2 == 1:
				out = append(out, ':')
			case i > 0:
				out = append(out, ',')
			}
			out = append(out, toJSON(child)...)
		}
		return append(out, brackets[1])
	}
	if n.Tag != "!!str" {
		return []byte(n.Value)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(n.Value) // encoding a string cannot fail
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// step returns the number of columns by which the author indents, 2 if the text does not show it.
func step(n *yaml.Node) int {
	if n.Kind == yaml.MappingNode && !flow(n) {
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			if value.Kind == yaml.MappingNode && !flow(value) && len(value.Content) > 0 && value.Content[0].Line > key.Line && key.Line > 0 {
				return value.Content[0].Column - key.Column
			}
		}
	}
	for _, child := range n.Content {
		if by := step(child); by != 0 && child.Kind != yaml.ScalarNode {
			return by
		}
	}
	if n.Kind == yaml.DocumentNode {
		return 2
	}
	return 0
}
