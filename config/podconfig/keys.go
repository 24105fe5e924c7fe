package podconfig

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// find returns the row of a key, without Prefix, and the argument after its dot. The error may be an unknownKey.
func find(key string) (*row, string, error) {
	r, argument := rowOf(key)
	if err := checkKey(r, argument, key); err != nil {
		return r, "", err
	}
	if r == nil {
		return nil, "", unknown(key)
	}
	return r, argument, nil
}

// maxKeyName is Kubernetes' limit on the characters of an annotation's key after the slash.
const maxKeyName = 63

// checkKey holds a key, without Prefix, to the grammar of Kubernetes' qualified names. The API server does so too, but only after it
// has called webhooks: https://kubernetes.io/docs/concepts/overview/working-with-objects/annotations/#syntax-and-character-set
func checkKey(r *row, argument, key string) error {
	if r != nil && argument == "" && r.argument() != "" {
		return fmt.Errorf("a name after the dot is missing; write %s%s%s", Prefix, r.key, r.argument())
	}
	odd := func(r rune) bool { return !alphanumeric(r) && !strings.ContainsRune("-_.", r) }
	valid := key != "" && !strings.ContainsFunc(key, odd) && alphanumeric(rune(key[0])) && alphanumeric(rune(key[len(key)-1]))
	if valid && len(key) <= maxKeyName {
		return nil
	}
	problem := fmt.Sprintf("the name part of an annotation's key, after the /, must have at most %d characters", maxKeyName)
	if !valid {
		problem = "the name part of an annotation's key, after the /, must consist of letters, digits, '-', '_' and '.', and must start and " +
			"end with a letter or digit"
	} else {
		problem += fmt.Sprintf(", and this one has %d", len(key))
	}
	switch {
	case r == nil:
	case r.key == "env.":
		problem += fmt.Sprintf("; write the variable in %senv, for example %senv: \"{%s: app/prod/db}\"", Prefix, Prefix,
			argument)
	case r.key == "secret.":
		problem += "; write a shorter name, and the file's own in the field path of the long form"
	}
	return errors.New(problem)
}

func alphanumeric(r rune) bool { return letter(r) || '0' <= r && r <= '9' }

func letter(r rune) bool { return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' }

func rowOf(key string) (*row, string) {
	for i := range rows() {
		r := &rows()[i]
		if r.key == key {
			return r, ""
		}
		if argument, found := strings.CutPrefix(key, r.key); found && strings.HasSuffix(r.key, ".") {
			return r, argument
		}
	}
	return nil, ""
}

// An unknownKey is an annotation that does not exist, and the key of the row that was meant, if that is clear.
type unknownKey struct {
	meant, problem string
}

func (u *unknownKey) Error() string { return "unknown annotation; " + u.problem }

// unknown suggests what a mistyped key was meant to be; "secrt.db" is compared by its part before the dot.
func unknown(key string) *unknownKey {
	if Prefix+key == NamespaceLabel {
		return &unknownKey{injectKey, fmt.Sprintf("it is a label of namespaces, and %s%s is what pods have", Prefix, injectKey)}
	}
	stem, argument, _ := strings.Cut(key, ".")
	var known []string
	for _, r := range rows() {
		if name := strings.TrimSuffix(r.key, "."); !slices.Contains(known, name) {
			known = append(known, name)
		}
	}
	near := cmp.Or(config.Nearest(stem, known), config.Nearest(key, known))
	if near == "" {
		return &unknownKey{"", orElse(key, known)}
	}
	u := &unknownKey{meant: near}
	if i := slices.IndexFunc(rows(), func(r row) bool { return r.key == near+"." }); i >= 0 {
		u.meant = rows()[i].key
		near += "." + cmp.Or(argument, rows()[i].argument())
	}
	u.problem = fmt.Sprintf("did you mean %s%s?", Prefix, near)
	return u
}

// orElse names the keys that share a word with one that is near to none, as role-arn with role, or else all keys.
func orElse(key string, known []string) string {
	words := strings.FieldsFunc(strings.ToLower(key), func(r rune) bool { return strings.ContainsRune("-_.", r) })
	alike := slices.DeleteFunc(slices.Clone(known), func(k string) bool {
		return !slices.ContainsFunc(strings.Split(k, "-"), func(word string) bool { return slices.Contains(words, word) })
	})
	switch len(alike) {
	case 0:
		return "the known ones are " + strings.Join(known, ", ")
	case 1:
		return fmt.Sprintf("did you mean %s%s?", Prefix, alike[0])
	}
	return "did you mean one of " + strings.Join(alike, ", ") + "?"
}

// Misspelt returns the annotations whose prefix is almost ours, each with the key that was meant. The API server calls no webhook
// for such annotations alone; callers that see the object for another reason can warn.
func Misspelt(annotations map[string]string) map[string]string {
	var found map[string]string
	for key := range annotations {
		if !strings.HasPrefix(key, misspeltPrefix) || strings.HasPrefix(key, Prefix) {
			continue
		}
		domain, rest, slashed := strings.Cut(key, "/")
		if !slashed { // kms.alibabacloud.com.inject
			rest = strings.TrimLeft(strings.TrimPrefix(domain, strings.TrimSuffix(Prefix, "/")), ".-_")
		}
		if len(rest) > maxKeyName {
			continue
		}
		if r, argument := rowOf(rest); r != nil && (argument == "") == (r.argument() == "") {
			if found == nil {
				found = map[string]string{}
			}
			found[key] = Prefix + rest
		}
	}
	return found
}

// misspeltPrefix is the common prefix of all annotations that Misspelt looks at: kms.aliyun.com/ and kms.alibaba.com/, too.
const misspeltPrefix = "kms.ali"

// Misplaced are those of our annotations, sorted, that have no effect because they are on what makes pods and not on its pods. Those
// that the template has too were put there by a tool that puts them everywhere.
func Misplaced(above []string, template map[string]string) []string {
	stray := slices.DeleteFunc(slices.Clone(above), func(key string) bool {
		_, below := template[key]
		return below || !strings.HasPrefix(key, Prefix)
	})
	slices.Sort(stray)
	return slices.Compact(stray)
}
