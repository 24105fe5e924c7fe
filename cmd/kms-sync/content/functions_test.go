package content

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// The functions of templates are those of testdata/functions.txt: a new version of Sprig brings none unseen.
func TestFunctions(t *testing.T) {
	const file = "testdata/functions.txt"
	var available []string
	for name := range maps.Keys(newEngine(Compat{}).functions) {
		if refusal(name) == nil && !strings.HasPrefix(name, internalCalls) {
			available = append(available, name)
		}
	}
	slices.Sort(available)
	got := strings.Join(available, "\n") + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || got != string(want) {
		t.Errorf("%v; look at the new functions, whether they are hermetic and deterministic, and what they may take:\n%s", err, got)
	}
	for _, r := range refusals {
		if r.reason == "" || r.names == "" {
			t.Errorf("%q is refused without a reason", r.names)
		}
	}
}

// Each function gives the same result for the same arguments, in any order of maps.
func TestFunctionsAreDeterministic(t *testing.T) {
	dot := map[string]any{"j": `{"z":1,"a":{"q":[1,2],"b":null},"m":"x","k":"y","c":2,"d":3}`}
	for _, text := range []string{
		`{{ keys (fromJson .j) | join "," }}`, `{{ values (omit (fromJson .j) "a") | join "," }}`, `{{ fromJson .j }}`, `{{ toJson (fromJson .j) }}`,
		`{{ range $k, $v := fromJson .j }}{{ $k }}{{ end }}`, `{{ pick (fromJson .j) "z" "m" "k" }}`, `{{ merge (dict "z" 2) (fromJson .j) }}`,
		`{{ splitList "," "a,b" | uniq | toString }}`, `{{ split "," "a,b,c" }}`, `{{ mergeJson .j .j }}`, `{{ printf "%v" (fromJson .j) }}`,
		`{{ urlParse "https://a:b@c/d?e=f" }}`, `{{ deepCopy (fromJson .j) }}`, `{{ pluck "z" (fromJson .j) }}`,
	} {
		first, err := newEngine(Compat{}).render(text, dot)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		for range 20 {
			if again, _ := newEngine(Compat{}).render(text, dot); again != first {
				t.Errorf("%s: %q, then %q", text, first, again)
			}
		}
	}
}
