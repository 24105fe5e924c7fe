package failure

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/test/written"
)

// The codes that docs/troubleshooting.md lists are those that the agent knows.
func TestTroubleshooting(t *testing.T) {
	written.Check(t, "../../docs/troubleshooting.md", "codes", codes(func(english string) string { return english }))
}

// latin is what a sentence has in common with its translation: placeholders, codes, names of fields, numbers. A sentence's own
// English words are not written so.
var latin = regexp.MustCompile(`\{[a-z]+\}|[A-Za-z]+(?:[.:/_-]+[A-Za-z<>*…]+)+|[a-z]+[A-Z]\w*|[A-Z]\w*[a-z][A-Z]\w*|[A-Z_]{8,}|\b\d+\b`)

// The Chinese page lists the same codes. Its sentences are in testdata, out of the agent: there is one for each that the agent
// has, with the same placeholders, codes and numbers.
func TestTroubleshootingInChinese(t *testing.T) {
	const file = "testdata/chinese.txt"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	chinese, used := map[string]string{}, map[string]bool{}
	for pair := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
		english, translation, _ := strings.Cut(pair, "\n")
		chinese[english] = translation
	}
	page := codes(func(english string) string {
		used[english] = true
		translation := chinese[english]
		if translation == "" {
			t.Errorf("%s has no Chinese for %q", file, english)
		}
		if want, got := terms(english), terms(translation); !slices.Equal(got, want) {
			t.Errorf("%s: %q has %q, in Chinese %q", file, english, want, got)
		}
		return translation
	})
	for english := range chinese {
		if !used[english] {
			t.Errorf("%s translates what the agent does not say: %q", file, english)
		}
	}
	if !t.Failed() {
		written.Check(t, "../../docs/zh/troubleshooting.md", "codes", page)
	}
}

func terms(sentence string) []string {
	found := latin.FindAllString(strings.ReplaceAll(sentence, "AccessKey", "access key"), -1) // which is a word of Chinese
	slices.Sort(found)
	return slices.Compact(found)
}

// codes returns the catalogues as Markdown, in the words of a language.
func codes(in func(english string) string) string {
	var b strings.Builder
	for _, of := range []struct {
		call      string
		catalogue []advice
	}{
		{"STS, `AssumeRoleWithOIDC`: the pod's ServiceAccount becomes its role", stsAdvice},
		{"STS, `AssumeRole`: a second role, or that of an access key", chainAdvice},
		{"KMS, `GetSecretValue`", kmsAdvice},
		{"The node's metadata service, with `identity: node-role`", nodeAdvice},
	} {
		fmt.Fprintf(&b, "\n### %s\n\n| %s | %s | %s |\n|---|---|---|\n", in(of.call), in("code"), in("why"), in("fix"))
		for _, entry := range each(of.catalogue) {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", entry.codes, in(inPod().Replace(entry.cause)), in(inPod().Replace(entry.cure)))
		}
	}
	return b.String() + "\n"
}

// each is a catalogue with an entry for each code.
func each(catalogue []advice) (entries []advice) {
	for _, entry := range catalogue {
		for code := range strings.SplitSeq(entry.codes, ", ") {
			entries = append(entries, advice{code, entry.cause, entry.cure})
		}
	}
	return entries
}
