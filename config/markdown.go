package config

import (
	"fmt"
	"strings"
)

// AnnotationTable is the documentation of the pod annotations: a table in Markdown, a row an annotation.
func AnnotationTable() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| annotation `%s…` | value | default | effect |\n|---|---|---|---|\n", Prefix)
	for _, r := range rows() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.key+r.argument(), r.value, r.initial, r.doc)
	}
	return b.String()
}
