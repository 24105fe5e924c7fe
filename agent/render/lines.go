package render

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf16"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

func lines(format config.Format, picked []field) ([]byte, error) {
	line := envLine
	if format == config.Properties {
		line = propertiesLine
	}
	var out bytes.Buffer
	for _, f := range picked {
		if f.value == nil {
			return nil, fmt.Errorf("key %q is null, which format %s cannot say", f.name, format)
		}
		value, err := asText(f.value)
		if err != nil {
			return nil, err
		}
		written, err := line(f.name, value)
		if err != nil {
			return nil, err
		}
		out.WriteString(written)
	}
	return out.Bytes(), nil
}

var (
	envName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	envPlain = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,-]+$`)
)

func envLine(name, value string) (string, error) {
	if !envName.MatchString(name) {
		return "", fmt.Errorf("key %q is not the name of an environment variable (letters, digits and _, no digit first); "+
			"rename it with keys: {NEW_NAME: '\"%s\"'}", name, name)
	}
	if strings.ContainsRune(value, 0) {
		return "", fmt.Errorf("key %q has a NUL character in its value, which an environment variable cannot hold", name)
	}
	return name + "=" + quoteEnv(value) + "\n", nil
}

// quoteEnv writes a value so that a POSIX shell (`. file`) reads it back exactly, in the simplest form that it allows,
// because other readers know fewer forms:
//
//	simple characters   as they are     also docker --env-file and systemd's EnvironmentFile
//	no single quote     'value'         also the dotenv libraries; line ends stay line ends
//	no " \ $ `          "value"         also the dotenv libraries
//	anything else       'it'\''s "so"'  a shell only
func quoteEnv(value string) string {
	switch {
	case envPlain.MatchString(value):
		return value
	case !strings.Contains(value, "'"):
		return "'" + value + "'"
	case !strings.ContainsAny(value, "\"\\$`"):
		return `"` + value + `"`
	}
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}

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
