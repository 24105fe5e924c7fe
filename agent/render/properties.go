package render

import (
	"fmt"
	"strings"
	"unicode/utf16"
)

// propertiesLine escapes as java.util.Properties.load reads: a file in ISO-8859-1, where everything outside printable
// ASCII is \uXXXX in UTF-16.
func propertiesLine(key, value string) (string, error) {
	var out strings.Builder
	for _, r := range key {
		if strings.ContainsRune(" :=#!", r) {
			out.WriteByte('\\')
		}
		propertiesRune(&out, r)
	}
	out.WriteByte('=')
	for i, r := range value {
		// Leading white space would be skipped. Other control characters are escaped anyway.
		if i == 0 && r == ' ' {
			out.WriteByte('\\')
		}
		propertiesRune(&out, r)
	}
	out.WriteByte('\n')
	return out.String(), nil
}

func propertiesRune(out *strings.Builder, r rune) {
	switch {
	case r == '\\':
		out.WriteString(`\\`)
	case r == '\n':
		out.WriteString(`\n`)
	case r == '\r':
		out.WriteString(`\r`)
	case r == '\t':
		out.WriteString(`\t`)
	case r == '\f':
		out.WriteString(`\f`)
	case ' ' <= r && r <= '~':
		out.WriteRune(r)
	default:
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(out, `\u%04X`, unit)
		}
	}
}
