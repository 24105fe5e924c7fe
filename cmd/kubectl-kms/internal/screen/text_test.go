package screen

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// hostile is what moves a terminal: a title, the clipboard, lines above, an erased line, 8-bit controls, and directions.
const hostile = "a\x1b]0;title\a\x1b]52;c;aGk=\a\x1b[1A\x1b[2Kb\rc\x9b31m\u009b2J\x7f\u202ed\u2066e\u2028f\x00\b\x1b[32m✓"

func TestEscape(t *testing.T) {
	for text, want := range map[string]Text{
		"plain 名字 é 😀 \ufffd\tand\nlines": "plain 名字 é 😀 \ufffd\tand\nlines",
		"\x1b[2J\r\a\x00\x7f":             `\x1b[2J\x0d\x07\x00\x7f`,
		"\u009b2J\u0085":                  `\x9b2J\x85`,
		"a\x9b\xffb\xc3":                  `a\x9b\xffb\xc3`,
		"\u202ea\u2066b\u200fc\u061cd":    `\u202ea\u2066b\u200fc\u061cd`,
		"\u2028\u2029":                    `\u2028\u2029`,
		"":                                "",
	} {
		if got := Escape(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
		if again := Escape(string(want)); again != want {
			t.Errorf("%q: escaped twice it is %q", want, again)
		}
	}
	if got := Line("a\n\tb"); got != `a\n\tb` {
		t.Errorf("%q", got)
	}
}

// By whatever way a text comes to the screen, only the screen's own colours move the terminal.
func TestOnlyOwnColours(t *testing.T) {
	for _, colour := range []bool{true, false} {
		var out bytes.Buffer
		s := Screen{out: &out, colour: colour, width: 80}
		s.Printf("%s %-40s %v %d\n", s.Strong(hostile), hostile, errors.New(hostile), 1)
		s.Field(hostile, hostile+"\n"+hostile)
		s.Indented(2, s.Bad(hostile)+s.Good(hostile)+s.Faint(hostile)+Escape(hostile))
		table := Table{Header: []string{"A", hostile}}
		table.Add(hostile, hostile+"\nshop/forged")
		s.Table(table)
		own := regexp.MustCompile("\x1b\\[(0|1|2|31|32)m")
		text := out.String()
		if colour {
			text = own.ReplaceAllString(text, "")
			if n := len(own.FindAllString(out.String(), -1)); n != 2*5 { // four, and the table's header
				t.Errorf("%d changes of colour", n)
			}
		}
		for i, r := range text {
			if r == unicode.ReplacementChar || r != '\n' && unicode.In(r, unicode.Cc, unicode.Bidi_Control, unicode.Zl, unicode.Zp) {
				t.Fatalf("colour %v: %q is shown:\n%q", colour, text[i:i+1], text)
			}
		}
		if strings.Contains(text, "\nshop/forged") {
			t.Errorf("a cell has made a line of its own:\n%s", text)
		}
	}
}

func TestEscaping(t *testing.T) {
	var out bytes.Buffer
	if n, err := Escaping(&out).Write([]byte("a\x1b[2J\n")); n != 6 || err != nil || out.String() != "a\\x1b[2J\n" {
		t.Errorf("%d %v %q", n, err, out.String())
	}
}
