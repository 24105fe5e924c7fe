package podconfig

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// An Annotation is the documentation of one annotation: a row of the table that parses it.
type Annotation struct {
	Key     string  `json:"key"`     // with Prefix; <file> and <NAME> stand for what its author chooses
	Value   string  `json:"value"`   // what may be written, in Markdown
	Default string  `json:"default"` // in Markdown
	Effect  string  `json:"effect"`  // in Markdown
	Example string  `json:"example"` // the annotation as it is written in a manifest
	Fields  []Field `json:"fields,omitempty"`
}

// A Field is one of the YAML mapping that an annotation's value may be.
type Field struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	Default string `json:"default"`
	Effect  string `json:"effect"`
}

// Annotations returns the documentation of all pod annotations, in its order.
func Annotations() []Annotation {
	all := make([]Annotation, 0, len(rows()))
	for _, r := range rows() {
		all = append(all, r.describe(r.argument()))
	}
	return all
}

// Describe returns the documentation of one annotation, named with or without Prefix, and with or without what follows its dot. The
// error suggests what was meant.
func Describe(name string) (Annotation, error) {
	key := strings.TrimPrefix(name, Prefix)
	if r, _ := rowOf(key); r == nil || r.key != key {
		key = strings.TrimSuffix(key, ".") + "."
	}
	if i := slices.IndexFunc(rows(), func(r row) bool { return r.key == key }); i >= 0 {
		return rows()[i].describe(rows()[i].argument()), nil
	}
	key = strings.TrimPrefix(name, Prefix)
	r, argument, err := find(key)
	if err != nil {
		return Annotation{}, err
	}
	return r.describe(argument), nil
}

func (r row) describe(argument string) Annotation {
	a := Annotation{Key: Prefix + r.key + argument, Value: r.value, Default: r.initial, Effect: r.doc}
	sample := map[string]string{"<file>": "db", "<NAME>": "DB_PASSWORD"}[argument]
	if sample == "" {
		sample = argument
	}
	value := r.example
	if _, err := strconv.Atoi(value); err == nil || value == "true" { // YAML would read something else than a string
		value = strconv.Quote(value)
	}
	a.Example = Prefix + r.key + sample + ": " + value
	if r.key == "secret." {
		a.Fields = secretFields
		a.Example += "\n" + Prefix + "secret.db.env: |\n  name: app/prod/db\n  format: env\n  keys: {DB_USER: AccountName, DB_PASSWORD: " +
			"AccountPassword}"
	}
	return a
}

// secretFields are the fields of the long form of secret.<file>.
var secretFields = []Field{
	{"name", "name or ARN of a KMS secret", "–", "the secret; required without `from`"},
	{"versionId", "id of a version", "–",
		"that version, which never changes; KMS ignores it for secrets of RDS, PolarDB, Redis/Tair, RAM and ECS"},
	{"versionStage", "for example `ACSPrevious`", "`ACSCurrent`", "the version that bears this label"},
	{"format", "`raw`, `json`, `env`, `properties`, `yaml`, `template`", "`raw`", "how the value becomes the file's content"},
	{"from", "mapping of names to secrets", "–", "several secrets in one `template`, in place of `name`"},
	{"keys", "mapping of names to JMESPath", "all keys", "picks and renames what is in the value"},
	{"template", "text of a Go template", "–", "with format `template`: the file's content"},
	{"path", "path below the mount path", "the name after `secret.`", "the file's place"},
	{"mode", "four octal digits, in quotes", "`0400`, or what the readers need", "the file's permission bits"},
	{"roleArn", "`acs:ram::<account>:role/<name>`", "none",
		"second role, assumed from the pod's, that reads the secret: for another account's"},
	{"onChange", "as `on-change`", "none", "what the agent notifies when this file changed"},
	{"containers", "list of the pod's containers", "the pod's", "the others do not see the file"},
	{"optional", "`true`, `false`", "`false`", "`true`: a secret that KMS does not have is left out"},
}

// AnnotationTable returns the documentation of the pod annotations: a table in Markdown, a row an annotation.
func AnnotationTable() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| annotation `%s…` | value | default | effect |\n|---|---|---|---|\n", Prefix)
	for _, r := range rows() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.key+r.argument(), r.value, r.initial, r.doc)
	}
	return b.String()
}
