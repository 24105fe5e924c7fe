package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

var (
	unknownField = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^line ([0-9]+): field (\S+) not found in type \S+$`)
	})
	goType = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`into (\*?)(\w*config\.)?(\S+)$`) })
)

// YAMLError rewrites err for the author of the YAML, without the names of Go types. For an unknown field it suggests the nearest of
// fields, if there are any.
func YAMLError(err error, fields []string) error {
	var types *yaml.TypeError
	if !errors.As(err, &types) {
		return fmt.Errorf("not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	var lines []string
	for _, line := range types.Errors {
		if m := unknownField().FindStringSubmatch(line); m != nil {
			line = NoField(m[1], m[2], fields).Error()
		}
		lines = append(lines, goType().ReplaceAllString(line, "where $3 is expected"))
	}
	return errors.New(strings.Join(lines, "; "))
}

// NoField returns the error for a field that does not exist, on a line. It suggests the nearest of fields.
func NoField(line, name string, fields []string) error {
	problem := fmt.Sprintf("line %s: there is no field %q", line, name)
	if near := Nearest(name, fields); near != "" {
		problem += fmt.Sprintf("; did you mean %q?", near)
	} else if len(fields) > 0 {
		problem += "; the fields are " + strings.Join(fields, ", ")
	}
	return errors.New(problem)
}
