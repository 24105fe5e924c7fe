package decide

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	kubejson "k8s.io/apimachinery/pkg/runtime/serializer/json"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/content"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/manifest"
)

// IsSynced reports whether an object is one of kms-sync's. External Secrets Operator has kinds of the same names in another group.
func IsSynced(o manifest.Object) bool {
	return strings.HasPrefix(o.APIVersion, v1alpha1.GroupVersion.Group+"/")
}

// IsExternalSecret reports whether an object is an ExternalSecret of kms-sync.
func IsExternalSecret(o manifest.Object) bool { return IsSynced(o) && o.Kind == "ExternalSecret" }

// externalSecret holds an ExternalSecret to what kms-sync holds it to. The API server removes fields that it does not know; here they are
// mistakes.
func (r *Report) externalSecret(o manifest.Object, namespace string) {
	r.ExternalSecrets++
	es, unknown, err := ExternalSecret(o)
	if err != nil {
		r.add(o, o.Document.Line, namespace, Mistake, "", "Kubernetes would not read it: "+err.Error())
		return
	}
	for _, field := range unknown {
		if !strings.HasPrefix(field, "status.") { // what another controller wrote
			r.add(o, o.Line(field), namespace, Mistake, field, "is no field of an ExternalSecret; the API server removes it")
		}
	}
	for _, m := range content.Check(es) {
		r.add(o, o.Line(m.Field), namespace, Mistake, m.Field, m.Problem)
	}
}

// ExternalSecret decodes an object, and returns the fields that an ExternalSecret does not have.
func ExternalSecret(o manifest.Object) (es *v1alpha1.ExternalSecret, unknown []string, err error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, nil, err
	}
	serializer := kubejson.NewSerializerWithOptions(kubejson.DefaultMetaFactory, scheme, scheme, kubejson.SerializerOptions{Strict: true})
	es = &v1alpha1.ExternalSecret{}
	_, _, err = serializer.Decode(o.JSON(), nil, es)
	if strict, ok := runtime.AsStrictDecodingError(err); ok {
		for _, problem := range strict.Errors() {
			field, _ := strings.CutPrefix(problem.Error(), `unknown field "`)
			unknown = append(unknown, strings.TrimSuffix(field, `"`))
		}
		return es, unknown, nil
	}
	return es, nil, err
}
