package podconfig

import (
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// Nearly all annotations are a name, or a mapping in a form that needs no YAML parser. What is read here, is read as YAML does.

// plainName reports whether a value is a name in the short form beyond doubt: YAML would read a single word too.
func plainName(s string) bool {
	if s == "" || s[len(s)-1] == ':' {
		return false
	}
	for _, r := range s {
		if !alphanumeric(r) && !strings.ContainsRune("/_+=.:-", r) {
			return false
		}
	}
	return s[0] != '-' && s[0] != '='
}

// maxPlain is the most fields or items that are read here.
const maxPlain = 100

// plainFields reads a mapping in its plainest forms, {name: app/db, format: env} or a line for each field. On such a line the value may
// also be in double quotes, a list or mapping of words in brackets, or the lines after a |. It reports false for whatever else YAML
// there is.
func plainFields(text string) (pairs []*yaml.Node, plain bool) {
	if inside, flow := between(text, "{", "}"); flow {
		return plainPairs(inside, 1)
	}
	for line := 1; text != ""; line++ {
		var field string
		field, text, _ = strings.Cut(text, "\n")
		key, written, found := strings.Cut(field, ": ")
		if !found || !config.Identifier(key) || len(pairs) == 2*maxPlain {
			return nil, false
		}
		var value *yaml.Node
		var lines int
		if written == "|" {
			value, lines, text = plainLines(text)
		} else {
			value = plainValue(written)
		}
		if value == nil {
			return nil, false
		}
		value.Line = line
		pairs = append(pairs, plainWord(key, line), value)
		line += lines
	}
	return pairs, len(pairs) > 0
}

// plainPairs reads what is between the braces of a mapping of words.
func plainPairs(text string, line int) (pairs []*yaml.Node, plain bool) {
	for text != "" {
		var field string
		field, text, _ = strings.Cut(text, ",")
		key, value, found := strings.Cut(strings.TrimPrefix(field, " "), ": ")
		if !found || !config.Identifier(key) || !isPlainWord(value) || len(pairs) == 2*maxPlain {
			return nil, false
		}
		pairs = append(pairs, plainWord(key, line), plainWord(value, line))
	}
	return pairs, len(pairs) > 0
}

// plainValue reads what follows a field's colon, nil for what is not plain.
func plainValue(text string) *yaml.Node {
	if isPlainWord(text) {
		return plainWord(text, 0)
	}
	if inside, quoted := between(text, `"`, `"`); quoted &&
		!strings.ContainsFunc(inside, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
		return &yaml.Node{Kind: yaml.ScalarNode, Style: yaml.DoubleQuotedStyle, Value: inside}
	}
	if inside, flow := between(text, "{", "}"); flow {
		if pairs, plain := plainPairs(inside, 0); plain {
			return &yaml.Node{Kind: yaml.MappingNode, Content: pairs}
		}
	}
	if inside, flow := between(text, "[", "]"); flow {
		items := strings.SplitN(inside, ",", maxPlain+1)
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for _, item := range items {
			if item = strings.TrimPrefix(item, " "); !isPlainWord(item) || len(items) > maxPlain {
				return nil
			}
			list.Content = append(list.Content, plainWord(item, 0))
		}
		return list
	}
	return nil
}

// plainLines reads the text after a line that ends with |: the lines with the first one's indentation, without it. It returns how many
// lines they are, blank ones after them too, and what follows.
func plainLines(text string) (value *yaml.Node, lines int, rest string) {
	indentation := text[:len(text)-len(strings.TrimLeft(text, " "))]
	first := strings.TrimPrefix(text, indentation)
	if indentation == "" || first == "" || first[0] == '\n' || first[0] == '\t' {
		return nil, 0, ""
	}
	var b strings.Builder
	blank := 0
	for ; text != ""; lines++ {
		line, more, ended := strings.Cut(text, "\n")
		content, inside := strings.CutPrefix(line, indentation)
		switch {
		case strings.HasPrefix(indentation, line): // shorter, and nothing but spaces
			blank++
		case inside:
			for ; blank > 0; blank-- {
				b.WriteByte('\n')
			}
			b.WriteString(content)
			if ended {
				b.WriteByte('\n')
			}
		case letter(rune(line[0])):
			return plainText(b.String()), lines, text
		default:
			return nil, 0, ""
		}
		text = more
	}
	return plainText(b.String()), lines, ""
}

// plainText is nil for characters that YAML takes for a line's end, or refuses.
func plainText(text string) *yaml.Node {
	for _, r := range text {
		switch {
		case r == '\n' || r == '\t' || ' ' <= r && r <= '~':
		case r < 0xa0 || r == '\u2028' || r == '\u2029' || r == '\ufeff' || r == utf8.RuneError || r == '\ufffe' || r == '\uffff':
			return nil
		}
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Style: yaml.LiteralStyle, Value: text}
}

func isPlainWord(s string) bool { return plainName(s) && s[0] != ':' }

func plainWord(s string, line int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Value: s, Line: line}
}

// between returns a text without what it begins and ends with.
func between(text, first, last string) (string, bool) {
	inside, begins := strings.CutPrefix(text, first)
	inside, ends := strings.CutSuffix(inside, last)
	return inside, begins && ends
}
