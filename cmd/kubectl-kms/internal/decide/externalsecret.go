package decide

import (
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/content"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/manifest"
)

// externalSecret holds an ExternalSecret to what kms-sync holds it to. The API server removes fields that it does not know; here they are
// mistakes.
func (r *Report) externalSecret(o manifest.Object, namespace string) {
	r.ExternalSecrets++
	es, unknown, err := o.ExternalSecret()
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
