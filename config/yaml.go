package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

var (
	unknownField = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^line ([0-9]+): field (\S+) not found in type \S+$`)
	})
	goType = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`into (\*?)(config\.)?(\S+)$`) })
)

// yamlError is err in the words of the person who wrote the YAML: without the names of this program's types.
func yamlError(err error) error { return yamlErrorNear(err, nil) }

// yamlErrorNear also suggests, for a field that does not exist, the nearest of fields.
func yamlErrorNear(err error, fields []string) error {
	var types *yaml.TypeError
	if !errors.As(err, &types) {
		return fmt.Errorf("not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	var lines []string
	for _, line := range types.Errors {
		if m := unknownField().FindStringSubmatch(line); m != nil {
			line = noField(m[1], m[2], fields).Error()
		}
		lines = append(lines, goType().ReplaceAllString(line, "where $3 is expected"))
	}
	return errors.New(strings.Join(lines, "; "))
}

// noField suggests the nearest of fields.
func noField(line, name string, fields []string) error {
	problem := fmt.Sprintf("line %s: there is no field %q", line, name)
	if near := nearest(name, fields); near != "" {
		problem += fmt.Sprintf("; did you mean %q?", near)
	} else if len(fields) > 0 {
		problem += "; the fields are " + strings.Join(fields, ", ")
	}
	return errors.New(problem)
}

func errorsOf(err error) []error {
	if err == nil {
		return nil
	}
	return []error{err}
}

// yamlFields collects the names of a struct's YAML fields at every depth, to suggest one for a name that is not among them.
func yamlFields(t reflect.Type, names []string) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return names
	}
	for field := range t.Fields() {
		name, inline, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if name == "-" || name == "" && inline == "" {
			continue
		}
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
		names = yamlFields(field.Type, names)
	}
	return names
}
