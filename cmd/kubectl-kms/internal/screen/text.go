package screen

import (
	"fmt"
	"io"
	"strings"
	"unicode"
)

// A Text contains no control sequences but the screen's own colours: the methods of Screen, and Escape, return it. Almost all text that
// the plugin shows comes from others: annotations, the agents' status, messages of events and of the API server.
type Text string

// Escape writes out the control characters of a text, C0 and C1, and those that turn the direction of writing. Line breaks and tabs
// stay.
func Escape(text string) Text {
	if !strings.ContainsFunc(text, moves) {
		return Text(text)
	}
	var b strings.Builder
	for i, r := range text {
		switch {
		case !moves(r):
			b.WriteRune(r)
		case r == unicode.ReplacementChar:
			if strings.HasPrefix(text[i:], string(unicode.ReplacementChar)) {
				b.WriteRune(r)
			} else { // a byte that is no UTF-8: a terminal may take it for a control character of its own
				fmt.Fprintf(&b, `\x%02x`, text[i])
			}
		case r > 0xff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\x%02x`, r)
		}
	}
	return Text(b.String())
}

// Line is Escape for what has its place in a line.
func Line(text string) Text {
	return Text(strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(string(Escape(text))))
}

// moves reports whether a rune does anything else than to appear; that of bytes that are no UTF-8 may.
func moves(r rune) bool {
	return r != '\n' && r != '\t' && unicode.In(r, unicode.Cc, unicode.Bidi_Control, unicode.Zl, unicode.Zp) || r == unicode.ReplacementChar
}

// Escaping writes to w what Escape makes of it.
func Escaping(w io.Writer) io.Writer { return escaping{w} }

type escaping struct{ io.Writer }

func (e escaping) Write(text []byte) (int, error) {
	if _, err := io.WriteString(e.Writer, string(Escape(string(text)))); err != nil {
		return 0, err
	}
	return len(text), nil
}
