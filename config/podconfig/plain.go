package podconfig

import (
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// Nearly all annotations are a name, or a mapping of words to words. To read these as YAML would cost more than all the rest of an
// injection; what is read here, is read as YAML does.

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

// maxPlain is the most fields that are read here.
const maxPlain = 100

// plainFields reads a mapping of words to words, in braces or with a line for each field. It reports false for whatever else YAML there
// is.
func plainFields(text string) (pairs []*yaml.Node, plain bool) {
	separator, blank := "\n", ""
	if inside, begins := strings.CutPrefix(text, "{"); begins {
		var ends bool
		if text, ends = strings.CutSuffix(inside, "}"); !ends {
			return nil, false
		}
		separator, blank = ",", " "
	}
	for line := 1; text != ""; {
		var field string
		field, text, _ = strings.Cut(text, separator)
		key, value, found := strings.Cut(strings.TrimPrefix(field, blank), ": ")
		if !found || !config.Identifier(key) || !plainName(value) || value[0] == ':' || len(pairs) == 2*maxPlain {
			return nil, false
		}
		pairs = append(pairs, &yaml.Node{Kind: yaml.ScalarNode, Value: key, Line: line},
			&yaml.Node{Kind: yaml.ScalarNode, Value: value, Line: line})
		if separator == "\n" {
			line++
		}
	}
	return pairs, len(pairs) > 0
}

// literal matches the lines before the first literal text of a mapping, and its own first line, if none of them can reach into the next:
// they have no quotes and brackets, or close them.
var literal = regexp.MustCompile(
	`^(?:(?:[^"'\[{\n]*|\w+: (?:"[^"\\\n]*"|\{[^"'#\[\]{}\n]*\}|\[[^"'#\[\]{}\n]*\]))\n)*?\w+: \|\n`)

// withoutLiteral leaves out the lines of the first literal text, of which a YAML decoder makes a single node whatever is in them.
func withoutLiteral(text string) string {
	at := literal.FindStringIndex(text)
	if at == nil || strings.ContainsAny(text, "\r\u0085\u2028\u2029") { // YAML's other line breaks
		return text
	}
	body := text[at[1]:]
	indentation := body[:len(body)-len(strings.TrimLeft(body, " "))]
	if indentation == "" || strings.HasPrefix(body, indentation+"\n") {
		return text
	}
	size := 0
	for line := range strings.Lines(body) {
		if !strings.HasPrefix(line, indentation) && strings.Trim(line, " \n") != "" {
			break
		}
		size += len(line)
	}
	return text[:at[1]] + body[size:]
}
