package content

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
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
		`{{ keys (fromJson .j) | join "," }}`, `{{ values (omit (fromJson .j) "a") | join "," }}`, `{{ fromJson .j }}`,
		`{{ range $k, $v := fromJson .j }}{{ $k }}{{ end }}`, `{{ pick (fromJson .j) "z" "m" "k" }}`, `{{ merge (dict "z" 2) (fromJson .j) }}`,
		`{{ splitList "," "a,b" | uniq | toString }}`, `{{ split "," "a,b,c" }}`, `{{ mergeJson .j .j }}`, `{{ printf "%v" (fromJson .j) }}`,
		`{{ urlParse "https://a:b@c/d?e=f" }}`, `{{ deepCopy (fromJson .j) }}`, `{{ pluck "z" (fromJson .j) }}`, `{{ toJson (fromJson .j) }}`,
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

// A hash stays as long as it fits its password, wherever in the value it is, and however many of them there are.
func TestHashesStay(t *testing.T) {
	es := &v1alpha1.ExternalSecret{}
	es.Spec.Data = []v1alpha1.DataSource{{Key: "strange", Name: "strange"}, {Key: "a", Name: "a"}, {Key: "b", Name: "b"}}
	es.Spec.Target.Template = &v1alpha1.Template{Data: map[string]string{
		"users": `{{ $a := htpasswd "a" .a }}{{ $b := htpasswd "b" .b }}{{ .strange }} {{ $b }} {{ $a }} {{ $a }}`,
	}}
	strange := strings.Repeat("$2a$10$"+strings.Repeat("x", 53)+" $2b$10$"+strings.Repeat("y", 53)+" ", mostHashes) // hashes that KMS has
	passwords := map[string]string{"strange": strange, "a": "one", "b": "two"}
	var present Result
	refresh := func() string {
		t.Helper()
		read := func(ref Ref) (kms.Secret, error) { return kms.Secret{Data: []byte(passwords[ref.Name])}, nil }
		made, errs := Render(es, Compat{}, read, of(present))
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		present = made
		fields := strings.Fields(strings.TrimPrefix(string(made.Data["users"]), strange))
		for i, user := range []string{"b", "a"} {
			_, hash, _ := strings.Cut(fields[i], user+":")
			if bcrypt.CompareHashAndPassword([]byte(hash), []byte(passwords[user])) != nil {
				t.Errorf("%s does not fit the password %s", fields[i], passwords[user])
			}
		}
		return string(made.Data["users"])
	}
	first := refresh()
	if again := refresh(); again != first {
		t.Errorf("%q became %q", first, again)
	}
	passwords["a"] = "three"
	changed := refresh()
	before, after := strings.Fields(first), strings.Fields(changed)
	if n := 2 * mostHashes; before[n] != after[n] || before[n+1] == after[n+1] {
		t.Errorf("a has another password, and %q became %q", first, changed)
	}
	if again := refresh(); again != changed {
		t.Errorf("%q became %q", changed, again)
	}
}

// A hostile template gets no more hashes than an object may have, and of a hostile Secret as few are tried; none that would take hours.
func TestHashesAreFew(t *testing.T) {
	e := newEngine(Compat{})
	e.hashes.present = func() []byte { return nil }
	if _, err := e.render(`{{ range until 1000 }}{{ bcrypt "x" }} {{ end }}`, nil); err == nil || len(e.hashes.made) != mostHashes {
		t.Errorf("%d hashes, %v", len(e.hashes.made), err)
	}
	var strangers strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&strangers, "$2a$31$%053d $2a$10$%053d ", i, i)
	}
	if own := (hashes{}).own(strangers.String()); len(own) != mostHashes || !strings.HasPrefix(own[0], "$2a$10$") {
		t.Errorf("%q are tried", own)
	}
}
