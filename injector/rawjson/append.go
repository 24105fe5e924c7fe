package rawjson

import "unicode/utf8"

// AppendString appends a string in quotes. Bytes that are not UTF-8 become U+FFFD, as in encoding/json.
func AppendString[S ~string | ~[]byte](b []byte, s S) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for {
		plain := special(s)
		b = append(b, s[:plain]...)
		if s = s[plain:]; len(s) == 0 {
			return append(b, '"')
		}
		size := 1
		switch c := s[0]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\t':
			b = append(b, '\\', 't')
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			var r rune
			r, size = utf8.DecodeRuneInString(string(s[:min(utf8.UTFMax, len(s))]))
			b = utf8.AppendRune(b, r)
		}
		s = s[size:]
	}
}

// AppendName appends the name of an object's next member, with a comma before it unless it is the first. The name has to be one
// that needs no escape.
func AppendName(b []byte, name string) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	return append(append(append(b, '"'), name...), '"', ':')
}
