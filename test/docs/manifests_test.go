package docs

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"

	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rrsa"
)

// TestManifests has Kubernetes' own types read every Deployment of the documents, strictly, and the injector plan for those
// that carry its annotations.
func TestManifests(t *testing.T) {
	in := newInjector(t)
	injected := 0
	for _, p := range pages(t) {
		for _, b := range p.Blocks {
			if b.Language != "yaml" {
				continue
			}
			for document := range strings.SplitSeq(b.Text, "\n---\n") {
				if !strings.Contains(document, "kind: Deployment\n") {
					continue
				}
				document = filled(document)
				var deployment appsv1.Deployment
				if err := yaml.UnmarshalStrict([]byte(document), &deployment); err != nil {
					t.Errorf("%s: %v in\n%s", p.File, err, document)
					continue
				}
				if deployment.Spec.Template.Annotations[podconfig.Prefix+"inject"] != "true" {
					continue
				}
				injected++
				if err := decide(in, deployment); err != nil {
					t.Errorf("%s: %v in\n%s", p.File, err, document)
				}
			}
		}
	}
	if injected < 5 {
		t.Errorf("found %d Deployments with annotations", injected)
	}
}

// TestRefusedMigration gives a Deployment with a KMS Agent the annotations that replace it, and leaves the KMS Agent in: it is refused
// as the page says.
func TestRefusedMigration(t *testing.T) {
	page, refused := noted(t, "refused")
	var before, after appsv1.Deployment
	for _, b := range page.Blocks {
		into := &before
		switch {
		case b.Note == "after: api":
			into = &after
		case !strings.Contains(b.Text, "kind: Deployment\n"):
			continue
		}
		if err := yaml.UnmarshalStrict([]byte(b.Text), into); err != nil {
			t.Fatal(err)
		}
	}
	before.Spec.Template.Annotations = after.Spec.Template.Annotations
	if err := decide(newInjector(t), before); err == nil || err.Error() != strings.TrimSpace(refused.Text) {
		t.Errorf("%s shows\n%s\nand it is\n%v", page.File, refused.Text, err)
	}
}

func newInjector(t *testing.T) *injector.Injector {
	t.Helper()
	policy, err := clusterconfig.Read([]byte("{accountID: '1234567890123456', clusterID: c0ffee, region: cn-hangzhou, agent: {image: " +
		"agent}}"))
	if err != nil {
		t.Fatal(err)
	}
	in, err := injector.New(policy, "v1")
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func decide(in *injector.Injector, d appsv1.Deployment) error {
	template, err := json.Marshal(d.Spec.Template)
	if err != nil {
		return err
	}
	pod, err := injector.DecodePod(template)
	if err != nil {
		return err
	}
	decision, err := in.Decide(context.Background(), injector.Request{Namespace: d.Namespace, Pod: pod}, oneRole{})
	return cmp.Or(err, decision.Refused())
}

// oneRole is a cluster in which every ServiceAccount has the same role, and no namespace has a label.
type oneRole struct{}

func (oneRole) NamespaceLabels(context.Context, string) (map[string]string, error) { return nil, nil }

func (oneRole) ServiceAccountAnnotations(context.Context, string, string, bool) (map[string]string, error) {
	return map[string]string{rrsa.RoleARNAnnotation: "acs:ram::1234567890123456:role/web"}, nil
}

// TestPolicies reads the RAM policies of the documents.
func TestPolicies(t *testing.T) {
	found := 0
	for _, p := range pages(t) {
		for _, b := range p.Blocks {
			if b.Language != "json" || !strings.Contains(b.Text, `"Statement"`) {
				continue
			}
			found++
			var policy struct {
				Version   string
				Statement []struct{ Effect string }
			}
			if err := json.Unmarshal([]byte(b.Text), &policy); err != nil || policy.Version != "1" || len(policy.Statement) == 0 {
				t.Errorf("%s: %v in\n%s", p.File, err, b.Text)
			}
		}
	}
	if found < 4 {
		t.Errorf("found %d policies", found)
	}
}

// filled puts something into the placeholders that stand for the reader's own names.
func filled(text string) string {
	return strings.NewReplacer("<namespace>", "shop", "<service account>", "web").Replace(text)
}
