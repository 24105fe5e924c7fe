package admission

import (
	"os"
	"path/filepath"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/content"
	"github.com/kms-agent-injector/kms-agent-injector/test/bounds"
)

// memoryOf is how many times 50 bytes for each of the input, beside 4 MB, a check may allocate; package content has the same.
const memoryOf = 20

// FuzzWarnings checks specs of each kind.
func FuzzWarnings(f *testing.F) {
	for _, spec := range []string{
		`{"KMS":{"KMSAuth":{"serviceAccountRef":{"name":"web","namespace":"x","audiences":["y"]},"roleSessionExpiration":"1"}}}`,
		`{"KMS":{"dedicatedKMSAuth":{"endpoint":"kst","ca":"YQ==","ignoreSSL":true,"protocol":"http"}},"conditions":[{"namespaceRegexes":` +
			`["(a{9}){9}"],"namespaceSelector":{"matchExpressions":[{"key":"a","operator":"In"}]}}]}`,
		`{"OOS":{}}`, `null`, ``, `{"data":[{}],"target":{"template":{"data":{"a":"{{"}}}}`,
	} {
		f.Add([]byte(spec))
	}
	files, err := filepath.Glob("../../content/testdata/*/object.yaml")
	if err != nil || files == nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var es struct{ Spec any }
		if err := yaml.Unmarshal(text, &es); err != nil {
			f.Fatal(err)
		}
		spec, err := yaml.Marshal(es.Spec)
		if err == nil {
			spec, err = yaml.YAMLToJSON(spec)
		}
		if err != nil {
			f.Fatal(err)
		}
		f.Add(spec)
	}
	f.Fuzz(func(t *testing.T, spec []byte) {
		for _, kind := range []string{"ExternalSecret", content.KindSecretStore, content.KindClusterSecretStore} {
			bounds.Allocations(t, memoryOf*len(spec), func() {
				o := object{Kind: kind, Spec: spec}
				if of, err := o.decode("shop"); err == nil {
					bounded(t, warnings(content.CheckObject(of)))
				}
			})
		}
	})
}
