// Package screen writes for people: with colour and to a width where a terminal shows it, plainly everywhere else.
package screen

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// A Screen is where people read.
type Screen struct {
	out      io.Writer
	colour   bool
	rewrites bool // its lines can be rewritten
	width    int  // 0: as wide as need be
}

// New looks at what out is. NO_COLOR and TERM=dumb switch the colour off (https://no-color.org).
func New(out io.Writer, getenv func(string) string) Screen {
	s := Screen{out: out}
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return s
	}
	s.rewrites = getenv("TERM") != "dumb"
	s.colour = s.rewrites && getenv("NO_COLOR") == ""
	if width, _, err := term.GetSize(int(file.Fd())); err == nil {
		s.width = width
	}
	return s
}

// Printf writes as fmt does, and escapes all of args that is no Text.
func (s Screen) Printf(format string, args ...any) {
	escaped := make([]any, len(args))
	for i, arg := range args {
		switch arg := arg.(type) {
		case Text, int:
			escaped[i] = arg
		default:
			escaped[i] = Escape(fmt.Sprint(arg))
		}
	}
	fmt.Fprintf(s.out, format, escaped...)
}

// Rewrites reports whether the last line can be written again.
func (s Screen) Rewrites() bool { return s.rewrites }

// Rewrite writes a line over the one that Rewrite wrote before. The cursor stays in it; "" leaves an empty one.
func (s Screen) Rewrite(line string) {
	if runes := []rune(line); s.width > 0 && len(runes) >= s.width {
		line = string(runes[:s.width-1]) // a line that is broken cannot be rewritten
	}
	fmt.Fprintf(s.out, "\r\x1b[K%s", Line(line))
}

// Field writes a name and its text, whose further lines stand below its first.
func (s Screen) Field(name, text string) {
	const indent = 10
	s.Printf("%-*s", indent, name+":")
	s.Beside(indent, Escape(text))
}

// Beside writes text behind what the line has, and its further lines at the indent.
func (s Screen) Beside(indent int, text Text) {
	for i, line := range s.wrap(text, indent) {
		if i > 0 {
			s.Printf("%*s", indent, "")
		}
		s.Printf("%s\n", line)
	}
}

// Strong is bold.
func (s Screen) Strong(text string) Text { return s.in("1", text) }

// Good is green.
func (s Screen) Good(text string) Text { return s.in("32", text) }

// Bad is red.
func (s Screen) Bad(text string) Text { return s.in("31", text) }

// Faint is grey.
func (s Screen) Faint(text string) Text { return s.in("2", text) }

// Mark returns the mark of something that was looked at: ok, broken, unknown or skipped.
func (s Screen) Mark(state string) Text {
	switch state {
	case "ok":
		return s.Good("✓")
	case "broken":
		return s.Bad("✗")
	case "skipped":
		return s.Faint("–")
	}
	return s.Faint("?")
}

func (s Screen) in(colour, text string) Text {
	if !s.colour {
		return Escape(text)
	}
	return "\x1b[" + Text(colour) + "m" + Escape(text) + "\x1b[0m"
}

// Indented writes text below something, every line of it to the right.
func (s Screen) Indented(indent int, text Text) {
	for _, line := range s.wrap(text, indent) {
		s.Printf("%*s%s\n", indent, "", line)
	}
}

// wrap breaks text into lines that fit beside an indent.
func (s Screen) wrap(text Text, indent int) []Text {
	var lines []Text
	for paragraph := range strings.SplitSeq(string(text), "\n") {
		if s.width == 0 || s.width <= indent+20 {
			lines = append(lines, Text(paragraph))
			continue
		}
		line := ""
		for word := range strings.FieldsSeq(paragraph) {
			if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > s.width-indent {
				lines, line = append(lines, Text(line)), ""
			}
			if line != "" {
				line += " "
			}
			line += word
		}
		lines = append(lines, Text(line))
	}
	return lines
}
