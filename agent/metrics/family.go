package metrics

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// family is one metric: a value for each combination of its labels' values.
type family struct {
	name, help string
	kind       string // counter or gauge
	labels     []string

	mu     sync.Mutex
	values map[string]float64 // by the labels as they are written
}

func newFamily(kind, name, help string, labels ...string) *family {
	f := &family{name: name, help: help, kind: kind, labels: labels, values: map[string]float64{}}
	if len(labels) == 0 {
		f.values[""] = 0 // so that it is there from the start
	}
	return f
}

func (f *family) add(by float64, labels ...string) {
	key := f.key(labels)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.values[key] += by
}

func (f *family) set(to float64, labels ...string) {
	key := f.key(labels)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.values[key] = to
}

var escaper = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

func (f *family) key(labels []string) string {
	if len(labels) == 0 {
		return ""
	}
	pairs := make([]string, len(labels))
	for i, value := range labels {
		pairs[i] = f.labels[i] + `="` + escaper.Replace(strings.ToValidUTF8(value, "\uFFFD")) + `"`
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

// write writes the family in the text format 0.0.4, sorted.
func (f *family) write(b *bytes.Buffer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b.WriteString("# HELP " + f.name + " " + f.help + "\n# TYPE " + f.name + " " + f.kind + "\n")
	keys := make([]string, 0, len(f.values))
	for key := range f.values {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		b.WriteString(f.name + key + " " + strconv.FormatFloat(f.values[key], 'g', -1, 64) + "\n")
	}
}
