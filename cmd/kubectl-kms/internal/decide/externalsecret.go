package decide

import (
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/content"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/manifest"
)

// synced holds an ExternalSecret or a store to what kms-sync holds it to. The API server removes fields that it does not know; here they
// are mistakes.
func (r *Report) synced(o manifest.Object, namespace string) {
	switch o.Kind {
	case "ExternalSecret":
		r.ExternalSecrets++
	case content.KindSecretStore:
		r.Stores++
	case content.KindClusterSecretStore:
		r.Stores++
		namespace = ""
	default:
		return
	}
	object, unknown, err := o.Synced()
	if err != nil {
		r.add(o, o.Document.Line, namespace, Mistake, "", "Kubernetes would not read it: "+err.Error())
		return
	}
	for _, field := range unknown {
		if !strings.HasPrefix(field, "status.") { // what another controller wrote
			r.add(o, o.Line(field), namespace, Mistake, field, "is no field of the kind "+o.Kind+"; the API server removes it")
		}
	}
	if of, ok := object.(*v1alpha1.SecretStore); ok {
		of.Namespace = namespace
	}
	for _, m := range content.CheckObject(object) {
		r.add(o, o.Line(m.Where), namespace, Mistake, m.Where, m.Problem)
	}
}
