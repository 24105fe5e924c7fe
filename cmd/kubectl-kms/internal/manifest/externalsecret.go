package manifest

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	kubejson "k8s.io/apimachinery/pkg/runtime/serializer/json"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
)

// IsSynced reports whether the object is one of kms-sync's. External Secrets Operator has kinds of the same names in another group.
func (o Object) IsSynced() bool {
	return strings.HasPrefix(o.APIVersion, v1alpha1.GroupVersion.Group+"/")
}

// IsExternalSecret reports whether the object is an ExternalSecret of kms-sync.
func (o Object) IsExternalSecret() bool { return o.IsSynced() && o.Kind == "ExternalSecret" }

// ExternalSecret decodes an ExternalSecret.
func (o Object) ExternalSecret() (*v1alpha1.ExternalSecret, error) {
	object, _, err := o.Synced()
	if err != nil {
		return nil, err
	}
	return object.(*v1alpha1.ExternalSecret), nil
}

// Synced decodes an object of kms-sync, and returns the fields that its kind does not have.
func (o Object) Synced() (object runtime.Object, unknown []string, err error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, nil, err
	}
	serializer := kubejson.NewSerializerWithOptions(kubejson.DefaultMetaFactory, scheme, scheme, kubejson.SerializerOptions{Strict: true})
	object, _, err = serializer.Decode(o.JSON(), nil, nil)
	if strict, ok := runtime.AsStrictDecodingError(err); ok {
		for _, problem := range strict.Errors() {
			field, _ := strings.CutPrefix(problem.Error(), `unknown field "`)
			unknown = append(unknown, strings.TrimSuffix(field, `"`))
		}
		return object, unknown, nil
	}
	return object, nil, err
}
