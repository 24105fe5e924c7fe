package render

import (
	"fmt"
	"strings"
)

// MaxActions is how many bytes of actions, which are between {{ and }}, a template may have, and all templates of a pod together: their
// parser takes up to a hundred times as much memory.
const MaxActions = 24 << 10

// Actions is how many bytes of a template are between {{ and }}. The error is that there are more than MaxActions.
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

// actionLength is the length of what follows {{, with its }}; quoted text and comments may have one in them.
func actionLength(text string) int {
	for i := 0; i < len(text); i++ {
		var end int
		rest := text[i:]
		switch {
		case strings.HasPrefix(rest, "}}"):
			return i + 2
		case strings.HasPrefix(rest, "/*"):
			end = strings.Index(rest, "*/")
		case rest[0] == '`':
			end = strings.IndexByte(rest[1:], '`') + 1
		case rest[0] == '"' || rest[0] == '\'':
			end = quoted(rest)
		default:
			continue
		}
		if end <= 0 { // it has no end
			return len(text)
		}
		i += end
	}
	return len(text)
}

// quoted is the index of the quotation mark that ends a text, 0 for none.
func quoted(text string) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case text[0]:
			return i
		}
	}
	return 0
}
