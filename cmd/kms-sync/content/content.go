// Package content makes a Secret's content of an ExternalSecret and of what was read from KMS, and before that says what is wrong with the
// ExternalSecret and its stores. It is pure: equal input gives equal bytes, but for a new hash of a password. What a tenant writes takes no
// more time and memory than the bounds that stand here.
package content

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/render"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/pattern"
)

// A Ref is a version of a secret, and who reads it where.
type Ref struct {
	kms.Ref
	Endpoint string                  // "": the controller's
	Store    v1alpha1.SecretStoreRef // zero: none; else with its Kind, and a SecretStore's with its Namespace
}

// Refs returns what an ExternalSecret reads: distinct, in the order of the spec.
func Refs(es *v1alpha1.ExternalSecret) []Ref {
	var refs []Ref
	seen := map[Ref]bool{}
	for _, source := range sources(es) {
		if ref := refOf(es, source); !seen[ref] {
			seen[ref] = true
			refs = append(refs, ref)
		}
	}
	return refs
}

func sources(es *v1alpha1.ExternalSecret) []*v1alpha1.DataSource {
	var all []*v1alpha1.DataSource
	for i := range es.Spec.Data {
		all = append(all, &es.Spec.Data[i])
	}
	for _, process := range es.Spec.DataProcess {
		if process.Extract != nil {
			all = append(all, process.Extract)
		}
	}
	return all
}

func refOf(es *v1alpha1.ExternalSecret, source *v1alpha1.DataSource) Ref {
	ref := Ref{
		Ref:      kms.Ref{Name: source.Key, VersionID: source.VersionID, VersionStage: source.VersionStage},
		Endpoint: strings.TrimSpace(source.KMSEndpoint),
	}
	if source.SecretStoreRef == nil {
		return ref
	}
	ref.Store = *source.SecretStoreRef
	switch {
	case ref.Store.Kind == KindClusterSecretStore:
		ref.Store.Namespace = ""
	default:
		ref.Store.Kind = KindSecretStore
		if ref.Store.Namespace == "" {
			ref.Store.Namespace = es.Namespace
		}
	}
	return ref
}

// The kinds of stores.
const (
	KindSecretStore        = "SecretStore"
	KindClusterSecretStore = "ClusterSecretStore"
)

// Values returns what was read of a Ref. An error fails the entries that need it.
type Values func(Ref) (kms.Secret, error)

// A Result is what the Secret is to have.
type Result struct {
	Type                corev1.SecretType
	Data                map[string][]byte
	Labels, Annotations map[string]string
}

// An EntryError says what failed of an entry.
type EntryError struct {
	Key string // of KMS; "": it is about a template, or about the whole Secret
	Err error
}

// MaxSize is what the values of a Secret may have together, in bytes: https://kubernetes.io/docs/concepts/configuration/secret/
const MaxSize = corev1.MaxSecretSize

// Render makes the content. With errors the Result is not for writing: all that fails is reported, and nothing is half a Secret.
// Errors have names in them, never values. Present returns what the Secret has now under a key; it is called for hashes of passwords,
// which stay if they fit.
func Render(es *v1alpha1.ExternalSecret, compat Compat, values Values, present func(key string) []byte) (Result, []EntryError) {
	r := renderer{es: es, compat: compat, values: values, present: present, data: map[string][]byte{}, steps: maxSteps}
	for i := range es.Spec.Data {
		r.entry(es.Spec.Data[i].Key, func() error { return r.source(&es.Spec.Data[i]) })
	}
	for i := range es.Spec.DataProcess {
		if process := &es.Spec.DataProcess[i]; process.Extract != nil {
			r.entry(process.Extract.Key, func() error { return r.extract(process) })
		}
	}
	if len(r.errs) > 0 {
		return Result{}, r.errs
	}
	result := Result{Type: typeOf(es), Data: r.data}
	r.template(&result)
	if len(r.errs) == 0 {
		r.entry("", func() error { return checkContent(result) })
	}
	if len(r.errs) > 0 {
		return Result{}, r.errs
	}
	return result, nil
}

type renderer struct {
	es      *v1alpha1.ExternalSecret
	compat  Compat
	values  Values
	present func(key string) []byte
	data    map[string][]byte
	size    int
	errs    []EntryError

	reader    reader
	steps     float64 // that expressions may still take
	extracted int     // bytes that extracts became, and the work of their fields
	renaming  int     // the work of replaceRules
}

// Limits of an object's entries, all of them together, which may take one secret as often as they like.
const (
	maxSteps     = 8 * render.StepsOfFile
	maxExtracted = 8 << 20  // bytes
	bytesOfField = 256      // that are written in the time that a field takes
	maxRenaming  = 64 << 20 // bytes of names, times the instructions of the rules
	bytesOfRule  = 64       // of names that are renamed in the time in which the rule is compiled
)

func (r *renderer) entry(key string, do func() error) {
	if err := do(); err != nil {
		r.errs = append(r.errs, EntryError{key, err})
	}
}

// put gives a key its value, and takes that of an earlier entry from it.
func (r *renderer) put(key string, value []byte) error {
	if problem := keyProblem(key); problem != "" {
		return fmt.Errorf("key %s of the Secret %s", excerpt(key), problem)
	}
	if r.size += len(value) - len(r.data[key]); r.size > MaxSize {
		return fmt.Errorf("key %s makes the Secret larger than the %d bytes that Kubernetes allows; divide it between several ExternalSecrets",
			key, MaxSize)
	}
	r.data[key] = value
	return nil
}

func (r *renderer) source(source *v1alpha1.DataSource) error {
	ref := refOf(r.es, source)
	secret, err := r.values(ref)
	if err != nil {
		return err
	}
	name := nameOf(source)
	if len(source.JMESPath) == 0 {
		return r.put(name, secret.Data)
	}
	doc, err := r.reader.read(use{ref, true}, secret)
	if err != nil {
		if r.compat.JMESPathFallback && !errors.Is(err, errParsing) {
			return r.put(name, secret.Data)
		}
		return fmt.Errorf("jmesPath %w", err)
	}
	picked, errs := r.pick(doc, source.JMESPath)
	if r.compat.JMESPathFallback {
		if errs = nil; len(picked) == 0 {
			return r.put(name, secret.Data)
		}
	}
	if errs != nil {
		return join(errs)
	}
	for _, field := range picked {
		errs = append(errs, r.put(field.name, field.value))
	}
	return join(errs)
}

// nameOf is the key of an entry without jmesPath.
func nameOf(source *v1alpha1.DataSource) string {
	if source.Name != "" {
		return source.Name
	}
	return source.Key
}

type field struct {
	name  string
	value []byte
}

// pick evaluates expressions. What fails is not among the fields.
func (r *renderer) pick(doc document, objects []v1alpha1.JMESPathObject) (picked []field, errs []error) {
	paths := make([]string, 0, len(objects))
	for _, object := range objects {
		paths = append(paths, object.Path)
	}
	found, failed := render.Search(doc.root, paths, &r.steps)
	for i, object := range objects {
		err := failed[i]
		if err != nil && doc.line {
			err = fmt.Errorf("path %q finds nothing in the secret, which is no JSON but one line of text", object.Path)
		}
		var text []byte
		if err == nil {
			text, err = r.compat.picked(found[i], doc.yaml)
		}
		if err != nil {
			errs = append(errs, pathError{object.ObjectAlias, err})
			continue
		}
		picked = append(picked, field{object.ObjectAlias, text})
	}
	return picked, errs
}

// A pathError is the error of an expression. There can be thousands, of which only the first become a text.
type pathError struct {
	alias string
	err   error
}

func (e pathError) Error() string { return fmt.Sprintf("jmesPath for %s: %v", excerpt(e.alias), e.err) }
func (e pathError) Unwrap() error { return e.err }

// maxKeys bounds the keys that one secret becomes.
const maxKeys = 10_000

func (r *renderer) extract(process *v1alpha1.DataProcess) error {
	ref := refOf(r.es, process.Extract)
	secret, err := r.values(ref)
	if err != nil {
		return err
	}
	if r.extracted > maxExtracted {
		return errors.New("extract comes after too many others: the entries of dataProcess become too many keys and bytes together; remove " +
			"those whose keys later entries replace, or divide the object into several")
	}
	doc, err := r.reader.read(use{ref, false}, secret)
	if err != nil {
		return fmt.Errorf("extract %w", err)
	}
	object, ok := doc.root.(map[string]any)
	switch {
	case !ok:
		return errors.New("extract needs a JSON or YAML object, whose keys become keys, and this secret's value is a list or a single value; " +
			"take it whole, as an entry of data")
	case len(object) > maxKeys:
		return fmt.Errorf("extract finds %d keys in it; at most %d are allowed", len(object), maxKeys)
	}
	fields, expressions, errs := r.renamed(doc, object, process.Extract.JMESPath)
	if len(expressions) > 0 {
		if doc, err = r.reader.read(use{ref, true}, secret); err != nil {
			return fmt.Errorf("extract %w", err)
		}
		picked, failed := r.pick(doc, expressions)
		fields, errs = append(fields, picked...), append(errs, failed...)
	}
	if errs != nil {
		return join(errs)
	}
	if fields, err = r.rewrite(fields, process.ReplaceRule); err != nil {
		return err
	}
	for _, field := range fields {
		if doc.line && keyProblem(field.name) != "" {
			return errors.New("extract finds a key that Kubernetes does not allow, in a value that is no JSON but one line of text; take it " +
				"whole, as an entry of data")
		}
		if err := r.put(field.name, field.value); err != nil {
			return fmt.Errorf("%w; replaceRule renames keys, for example source: '[^-._a-zA-Z0-9]', target: _", err)
		}
	}
	return nil
}

// renamed returns the object's fields, sorted: those whose name is a path have its alias. A path that is no name is an expression, and
// what it picks is one more field.
func (r *renderer) renamed(doc document, object map[string]any, objects []v1alpha1.JMESPathObject) (
	fields []field, expressions []v1alpha1.JMESPathObject, errs []error,
) {
	alias := map[string]string{}
	for _, o := range objects {
		if _, ok := object[o.Path]; ok {
			alias[o.Path] = o.ObjectAlias
		} else {
			expressions = append(expressions, o)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		text, err := r.compat.extracted(object[name], doc.yaml)
		if err != nil {
			errs = append(errs, fmt.Errorf("key %s: %w", excerpt(name), err))
		}
		if as, ok := alias[name]; ok {
			name = as
		}
		fields = append(fields, field{name, text})
		r.extracted += bytesOfField + len(text)
	}
	return fields, expressions, errs
}

// rewrite applies rules to the names of fields, one rule after the other. Two names that become equal are an error: which of the values
// would be lost is chance.
func (r *renderer) rewrite(fields []field, rules []v1alpha1.ReplaceRule) ([]field, error) {
	original := make([]string, 0, len(fields))
	for _, f := range fields {
		original = append(original, f.name)
	}
	for _, rule := range rules {
		instructions, err := pattern.Instructions(rule.Source)
		if err != nil {
			return nil, err
		}
		work := bytesOfRule
		for _, f := range fields {
			if len(f.name) > maxName {
				return nil, fmt.Errorf("key %s has %d bytes; replaceRule is for names of at most %d", excerpt(f.name), len(f.name), maxName)
			}
			work += 1 + len(f.name)
			if r.compat.ReplaceRuleValues {
				work += len(f.value) / 8
			}
		}
		if r.renaming += work * instructions; r.renaming > maxRenaming {
			return nil, errors.New("replaceRule rewrites too much: the rules are too many, or too large, for the keys there are; write fewer and " +
				"shorter rules, or divide the object into several")
		}
		expression, err := pattern.Compile(rule.Source)
		if err != nil {
			return nil, err
		}
		for i := range fields {
			name := &fields[i].name
			*name = expression.ReplaceAllString(*name, rule.Target)
			if len(*name) > maxName { // thousands of them could be any length
				return nil, fmt.Errorf("replaceRule makes of key %s one of %d bytes; Kubernetes allows %d", excerpt(original[i]), len(*name), maxName)
			}
			if r.compat.ReplaceRuleValues && rule.Source != "" {
				if fields[i].value, err = replaceAll(fields[i].value, rule.Source, rule.Target); err != nil {
					return nil, err
				}
			}
		}
	}
	from := map[string]string{}
	for i, f := range fields {
		if before, twice := from[f.name]; twice {
			return nil, fmt.Errorf("keys %s and %s of the secret both become %s; change the replaceRule or the jmesPath that makes them equal",
				excerpt(before), excerpt(original[i]), excerpt(f.name))
		}
		from[f.name] = original[i]
	}
	return fields, nil
}

// join makes one line of errors, for a status: of the first, if they are many or long.
func join(errs []error) error {
	const most, mostText = 20, 4 << 10
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	text, shown := errs[0].Error(), 1
	for ; shown < min(most, len(errs)) && len(text) < mostText; shown++ {
		text += "; " + errs[shown].Error()
	}
	if shown < len(errs) {
		text += fmt.Sprintf("; and %d more mistakes", len(errs)-shown)
	}
	return errors.New(text)
}

// excerpt quotes a name.
func excerpt(name string) string { return fmt.Sprintf("%q", clip(name)) }

// clip leaves the beginning of a text that is too long to be read.
func clip(text string) string {
	const most = 80
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
