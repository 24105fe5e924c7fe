package webhook

import (
	"cmp"
	"fmt"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/injector/kubejson"
)

func TestDecodeWorkload(t *testing.T) {
	const (
		template = `{"metadata":{"annotations":{"kms.alibabacloud.com/mode":"init"}},"spec":{"serviceAccountName":"web"}}`
		ours     = `{"annotations":{"kms.alibabacloud.com/api":"true","kms.alibabacloud.com/mode":"init","example.com/a":"b"}}`
		deleted  = `{"deletionTimestamp":"2026-01-01T00:00:00Z"}`
	)
	for name, c := range map[string]struct {
		text      string
		empty     bool // it has no template
		deleted   bool
		misplaced string
		claims    string
	}{
		"a Deployment":   {text: `{"metadata":{"annotations":null},"spec":{"replicas":3,"template":` + template + `}}`},
		"a CronJob":      {text: `{"spec":{"jobTemplate":{"spec":{"template":` + template + `}}}}`},
		"on its way out": {text: `{"metadata":` + deleted + `,"spec":{"template":` + template + `}}`, deleted: true},
		"annotated itself": {text: `{"metadata":` + ours + `,"spec":{"template":` + template + `}}`,
			misplaced: "kms.alibabacloud.com/api: has no effect here, only on pods; move it to spec.template.metadata.annotations"},
		"an annotated CronJob": {text: `{"metadata":` + ours + `,"spec":{"jobTemplate":{"spec":{"template":` + template + `}}}}`,
			misplaced: "kms.alibabacloud.com/api: has no effect here, only on pods; move it to spec.jobTemplate.spec.template.metadata.annotations"},
		"a CronJob annotated deep": {text: `{"spec":{"jobTemplate":{"metadata":` + ours + `,"spec":{"template":` + template + `}}}}`,
			misplaced: "kms.alibabacloud.com/api: has no effect here, only on pods; move it to spec.jobTemplate.spec.template.metadata.annotations"},
		"a StatefulSet": {text: `{"spec":{"volumeClaimTemplates":[{"metadata":{"name":"data"},"spec":{"name":"x"}},null,` +
			`{"kind":"PersistentVolumeClaim","metadata":{"labels":null,"name":"logs"}}],"template":` + template + `}}`, claims: "[data logs]"},
		"without claims":        {text: `{"spec":{"volumeClaimTemplates":null,"template":` + template + `}}`},
		"nothing":               {text: `null`, empty: true},
		"nothing at all levels": {text: `{"metadata":null,"spec":{"template":null,"jobTemplate":{"spec":null}}}`, empty: true},
	} {
		t.Run(name, func(t *testing.T) {
			var w workload
			if err := kubejson.Unmarshal([]byte(c.text), &w); err != nil {
				t.Fatal(err)
			}
			if read := w.template().Metadata.Annotations["kms.alibabacloud.com/mode"] == "init" &&
				w.template().Spec.ServiceAccountName == "web"; read == c.empty {
				t.Errorf("read %+v", w.template())
			}
			deleted := w.Metadata.DeletionTimestamp != ""
			if claims := fmt.Sprint(w.claims()); claims != cmp.Or(c.claims, "[]") {
				t.Errorf("claims %s, want %s", claims, c.claims)
			}
			if deleted != c.deleted {
				t.Errorf("deleted: %v", deleted)
			}
			switch said := w.misplaced(); {
			case c.misplaced == "" && len(said) > 0, c.misplaced != "" && (len(said) != 1 || said[0] != c.misplaced):
				t.Errorf("said %q, want %q", said, c.misplaced)
			}
		})
	}
}
