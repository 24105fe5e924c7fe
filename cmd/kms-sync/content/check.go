package content

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kms-agent-injector/kms-agent-injector/agent/render"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/pattern"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/storespec"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// endpoints are the hosts that an entry may name, as in ack-secret-manager.
var endpoints = regexp.MustCompile(`^(kms(-vpc)?\.[a-z0-9-]+\.aliyuncs\.com|[a-z0-9-]+\.cryptoservice\.kms\.aliyuncs\.com)$`)

// Limits of an object: its secrets, the expressions of all of them, the rules of each, and its templates.
const (
	maxEntries   = 1000
	maxPaths     = maxKeys
	maxRules     = 100
	maxTemplates = 1000
)

// CheckObject returns all mistakes of an ExternalSecret, a SecretStore or a ClusterSecretStore that can be known without a cluster and
// without a secret's value; none of any other object.
func CheckObject(object runtime.Object) config.Mistakes {
	switch of := object.(type) {
	case *v1alpha1.ExternalSecret:
		return Check(of)
	case *v1alpha1.SecretStore:
		return storespec.Check(of.Spec, of.Namespace)
	case *v1alpha1.ClusterSecretStore:
		return append(storespec.Check(v1alpha1.SecretStoreSpec{KMS: of.Spec.KMS, OOS: of.Spec.OOS}, ""),
			storespec.CheckConditions(of.Spec.Conditions)...)
	}
	return nil
}

// Check is CheckObject of an ExternalSecret.
func Check(es *v1alpha1.ExternalSecret) config.Mistakes {
	c := checker{es: es}
	c.metadata()
	c.spec()
	if !c.sizes() {
		return c.mistakes
	}
	for i := range es.Spec.Data {
		c.source(fmt.Sprintf("spec.data[%d]", i), &es.Spec.Data[i], false)
	}
	for i := range es.Spec.DataProcess {
		c.process(fmt.Sprintf("spec.dataProcess[%d]", i), &es.Spec.DataProcess[i])
	}
	c.target()
	c.secretType()
	return c.mistakes
}

type checker struct {
	es       *v1alpha1.ExternalSecret
	mistakes config.Mistakes
}

func (c *checker) add(field, problem string) { c.mistakes.Add(field, "%s", problem) }

func (c *checker) oneOf(field, value string, allowed ...string) {
	if value != "" && !slices.Contains(allowed, value) {
		c.add(field, config.NotOneOf(value, allowed).Error())
	}
}

// object checks the name of an object of Kubernetes.
func (c *checker) object(field, name string) {
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		c.add(field, fmt.Sprintf("%s is not a name that Kubernetes allows: %s", excerpt(name), problems[0]))
	}
}

func (c *checker) metadata() {
	if account, ok := c.es.Annotations[v1alpha1.AnnotationServiceAccount]; ok {
		c.object("metadata.annotations["+v1alpha1.AnnotationServiceAccount+"]", account)
	}
	if _, ok := c.es.Annotations[v1alpha1.AnnotationAdopt]; ok {
		c.add("metadata.annotations["+v1alpha1.AnnotationAdopt+"]", "an ExternalSecret cannot agree for a Secret; annotate the Secret with it, "+
			"if you may")
	}
}

func (c *checker) spec() {
	spec := &c.es.Spec
	switch spec.Provider {
	case "", providerKMS:
	case providerOOS:
		c.add("spec.provider", "oos is not supported yet: kms-sync reads KMS; ack-secret-manager syncs parameters of OOS")
	default:
		c.add("spec.provider", config.NotOneOf(spec.Provider, []string{providerKMS, providerOOS}).Error())
	}
	if len(spec.Data)+len(spec.DataProcess) == 0 {
		c.add("spec", "has neither data nor dataProcess, so that there is nothing to read")
	}
	if text := spec.RotationInterval; text != "" {
		interval, err := time.ParseDuration(text)
		switch {
		case err != nil:
			c.add("spec.rotationInterval", fmt.Sprintf("%s is not a duration; write for example 2m or 1h30m", excerpt(text)))
		case interval < config.ShortestRefresh:
			c.add("spec.rotationInterval", fmt.Sprintf("%s is too short; the least is %s, because the account's programs share the quota of KMS",
				text, config.ShortestRefresh))
		}
	}
	c.oneOf("spec.refreshPolicy", string(spec.RefreshPolicy), string(v1alpha1.RefreshPeriodic), string(v1alpha1.RefreshOnChange),
		string(v1alpha1.RefreshCreatedOnce))
}

// sizes reports whether the object is small enough for its parts to be looked at.
func (c *checker) sizes() bool {
	spec, small := &c.es.Spec, true
	limit := func(field, what string, n, most int) {
		if n > most {
			c.add(field, fmt.Sprintf("has %d %s; at most %d are allowed: divide them between several ExternalSecrets", n, what, most))
			small = false
		}
	}
	limit("spec", "entries", len(spec.Data)+len(spec.DataProcess), maxEntries)
	paths := 0
	for _, source := range sources(c.es) {
		paths += len(source.JMESPath)
	}
	limit("spec", "expressions in the jmesPath of all entries", paths, maxPaths)
	for i := range spec.DataProcess {
		limit(fmt.Sprintf("spec.dataProcess[%d].replaceRule", i), "rules", len(spec.DataProcess[i].ReplaceRule), maxRules)
	}
	if t := spec.Target.Template; t != nil {
		templates := len(t.Data) + len(t.Metadata.Labels) + len(t.Metadata.Annotations)
		limit("spec.target.template", "templates in data and metadata", templates, maxTemplates)
	}
	return small
}

// The providers.
const (
	providerKMS = "kms"
	providerOOS = "oos"
)

// source checks an entry of data, or the secret of an extract.
func (c *checker) source(at string, s *v1alpha1.DataSource, extract bool) {
	if err := config.CheckSecretName(s.Key); err != nil {
		c.add(at+".key", err.Error())
	}
	if !extract && len(s.JMESPath) == 0 {
		c.entryName(at, s)
	}
	if s.VersionID != "" && s.VersionStage != "" {
		c.add(at+".versionId", "is there beside versionStage; keep versionStage, which follows rotations, or versionId, which does not")
	}
	const most = 64
	for _, version := range [][2]string{{".versionId", s.VersionID}, {".versionStage", s.VersionStage}} {
		if len(version[1]) > most || strings.ContainsFunc(version[1], func(r rune) bool { return r <= ' ' || r > '~' }) {
			c.add(at+version[0], fmt.Sprintf("has to have at most %d letters, digits and other visible characters of ASCII", most))
		}
	}
	if host := strings.TrimSpace(s.KMSEndpoint); host != "" && !endpoints.MatchString(host) {
		c.add(at+".kmsEndpoint", fmt.Sprintf("%s is not a gateway of KMS; write kms-vpc.<region>.aliyuncs.com, kms.<region>.aliyuncs.com or "+
			"<instance>.cryptoservice.kms.aliyuncs.com, without a scheme", excerpt(host)))
	}
	if ref := s.SecretStoreRef; ref != nil {
		c.object(at+".secretStoreRef.name", ref.Name)
		if ref.Namespace != "" && len(validation.IsDNS1123Label(ref.Namespace)) > 0 {
			c.add(at+".secretStoreRef.namespace", excerpt(ref.Namespace)+" is not the name of a namespace")
		}
		c.oneOf(at+".secretStoreRef.kind", ref.Kind, KindSecretStore, KindClusterSecretStore)
	}
	c.jmesPath(at+".jmesPath", s.JMESPath, extract)
}

// entryName checks the key that an entry without jmesPath becomes.
func (c *checker) entryName(at string, s *v1alpha1.DataSource) {
	problem := keyProblem(nameOf(s))
	switch {
	case problem == "" || s.Name == "" && s.Key == "":
	case s.Name != "":
		c.add(at+".name", excerpt(s.Name)+" "+problem)
	default:
		c.add(at+".name", fmt.Sprintf("is missing, so that the key of the Secret would be %s, which %s; write name", excerpt(s.Key), problem))
	}
}

func (c *checker) jmesPath(at string, objects []v1alpha1.JMESPathObject, extract bool) {
	first := map[string]int{}
	for i, o := range objects {
		// A path of extract may be the name of a key, whatever that is.
		if err := render.CheckKey(o.Path); err != nil && (!extract || len(o.Path) == 0) {
			c.add(fmt.Sprintf("%s[%d].path", at, i), err.Error())
		}
		alias := fmt.Sprintf("%s[%d].objectAlias", at, i)
		if problem := keyProblem(o.ObjectAlias); problem != "" && !extract {
			c.add(alias, excerpt(o.ObjectAlias)+" "+problem)
		}
		if before, twice := first[o.ObjectAlias]; twice {
			c.add(alias, fmt.Sprintf("%s is that of jmesPath[%d] too, so that one of the values would be lost", excerpt(o.ObjectAlias), before))
		}
		first[o.ObjectAlias] = i
	}
}

func (c *checker) process(at string, p *v1alpha1.DataProcess) {
	if p.Extract == nil {
		c.add(at+".extract", "is missing: an entry of dataProcess is a secret whose keys become keys; write extract: {key: …}")
	} else {
		c.source(at+".extract", p.Extract, true)
	}
	for i, rule := range p.ReplaceRule {
		if _, err := pattern.Instructions(rule.Source); err != nil {
			c.add(fmt.Sprintf("%s.replaceRule[%d].source", at, i), err.Error())
		}
		if len(rule.Target) > maxName {
			c.add(fmt.Sprintf("%s.replaceRule[%d].target", at, i), fmt.Sprintf("has %d bytes; names have at most %d", len(rule.Target), maxName))
		}
	}
}

func (c *checker) target() {
	target := &c.es.Spec.Target
	if target.Name != "" {
		c.object("spec.target.name", target.Name)
	}
	c.oneOf("spec.target.creationPolicy", string(target.CreationPolicy), string(v1alpha1.CreateOwner), string(v1alpha1.CreateOrphan),
		string(v1alpha1.CreateMerge))
	c.oneOf("spec.target.deletionPolicy", string(target.DeletionPolicy), string(v1alpha1.DeletionRetain), string(v1alpha1.DeletionDelete),
		string(v1alpha1.DeletionMerge))
	c.policies()
	t := target.Template
	if t == nil {
		return
	}
	c.oneOf("spec.target.template.mergePolicy", t.MergePolicy, mergePolicyReplace, mergePolicyMerge)
	if len(t.TemplateFrom) > 0 {
		c.add("spec.target.template.templateFrom", "is not supported yet; write the templates into target.template.data")
	}
	checkTemplates(t, c.add)
}

// policies refuses those that contradict each other.
func (c *checker) policies() {
	target := &c.es.Spec.Target
	owner := target.CreationPolicy == "" || target.CreationPolicy == v1alpha1.CreateOwner
	if target.DeletionPolicy == v1alpha1.DeletionDelete && !owner {
		c.add("spec.target.deletionPolicy", fmt.Sprintf("Delete deletes the Secret, which with creationPolicy %s is not the ExternalSecret's; "+
			"set creationPolicy Owner, or deletionPolicy Retain or Merge", target.CreationPolicy))
	}
	if target.CreationPolicy != v1alpha1.CreateMerge {
		return
	}
	if target.Immutable {
		c.add("spec.target.immutable", "would make a Secret of others immutable, to which creationPolicy Merge adds keys; "+
			"set creationPolicy Owner")
	}
	if t := target.Template; t != nil && len(t.Metadata.Labels)+len(t.Metadata.Annotations) > 0 {
		c.add("spec.target.template.metadata", "would change the labels and annotations of a Secret of others, to which creationPolicy Merge "+
			"adds keys; set creationPolicy Owner")
	}
}

// secretType checks the type, and its required keys as far as the keys are known.
func (c *checker) secretType() {
	t, field := typeOf(c.es), "spec.type"
	template := c.es.Spec.Target.Template
	if template != nil && template.Type != "" {
		field = "spec.target.template.type"
	}
	if problem := typeProblem(t); problem != "" {
		c.add(field, problem)
	}
	known := map[string]bool{}
	if template != nil {
		for key := range maps.Keys(template.Data) {
			known[key] = true
		}
	}
	if template == nil || len(template.Data) == 0 || template.MergePolicy == mergePolicyMerge {
		if len(c.es.Spec.DataProcess) > 0 {
			return // what keys the secrets have is not known
		}
		for _, key := range entryKeys(c.es) {
			known[key] = true
		}
	}
	if keys := missing(t, func(key string) bool { return known[key] }); keys != nil {
		c.add(field, fmt.Sprintf("a Secret of type %s has to have the key %s; give an entry that name, or make it by target.template.data", t,
			strings.Join(keys, ", ")))
	}
}

// entryKeys are the keys that the entries of data become.
func entryKeys(es *v1alpha1.ExternalSecret) []string {
	var keys []string
	for i := range es.Spec.Data {
		source := &es.Spec.Data[i]
		if len(source.JMESPath) == 0 {
			keys = append(keys, nameOf(source))
		}
		for _, o := range source.JMESPath {
			keys = append(keys, o.ObjectAlias)
		}
	}
	return keys
}
