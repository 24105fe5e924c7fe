package render

import (
	"fmt"
	"regexp"
	"strings"
)

var (
	envName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	envPlain = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,-]+$`)
)

func envLine(name, value string) (string, error) {
	if !envName.MatchString(name) {
		return "", fmt.Errorf("key %q is not the name of an environment variable (letters, digits and _, no digit first); rename it with keys: {NEW_NAME: '\"%s\"'}", name, name)
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
