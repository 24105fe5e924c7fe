package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/review"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/share"
)

// sizes are of AdmissionReviews: a pod by itself, one with a mesh's sidecar, one that many controllers have written to.
var sizes = []struct {
	name  string
	bytes int
}{{"small", 3 << 10}, {"medium", 15 << 10}, {"large", 110 << 10}}

// BenchmarkMutate compares an injection with the least that any handler does: decode the AdmissionReview, answer with an empty
// patch.
func BenchmarkMutate(b *testing.B) {
	for _, size := range sizes {
		body := reviewOf(b, size.bytes)
		for _, handler := range []struct {
			name string
			http.Handler
		}{{"bare", http.HandlerFunc(bare)}, {"injector", mutator(b)}} {
			b.Run(size.name+"/"+handler.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
					r.Header.Set("Content-Type", "application/json")
					w := httptest.NewRecorder()
					handler.ServeHTTP(w, r)
					if w.Code != http.StatusOK {
						b.Fatal(w.Body)
					}
				}
			})
		}
	}
}

func bare(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(body, &review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true, Patch: []byte("[]"),
		PatchType: new(admissionv1.PatchTypeJSONPatch)}
	review.Request = nil
	json.NewEncoder(w).Encode(review)
}

func mutator(b testing.TB) http.Handler {
	admission, err := permissive(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	metrics := newMetrics(func() time.Time { return time.Time{} })
	return &review.Handler[injector.Pod]{Decide: admission.mutatePod, Observe: metrics.pod, Log: logr.Discard(), Draining: new(atomic.Bool)}
}

// permissive allows whatever is not wrong. Its document is in directory for as long as it takes to read it.
func permissive(directory string) (*admission, error) {
	file := filepath.Join(directory, "config.yaml")
	if err := os.WriteFile(file, []byte("{accountID: '1', clusterID: c, region: cn-hangzhou, agent: {image: agent}}"), 0o600); err != nil {
		return nil, err
	}
	policy, err := loadPolicy(file, "v1", logr.Discard())
	if err != nil {
		return nil, err
	}
	return &admission{policy: policy, metadata: metadata{cached: oneAccount{}, live: newLive(oneAccount{}), scope: &scope{}},
		events: &events{rate: share.NewRate(1, 1), recorder: &record.FakeRecorder{}}}, nil
}

// oneAccount has every ServiceAccount, and one role for all, and every namespace, all of which have opted in.
type oneAccount struct{ client.Reader }

func (oneAccount) Get(_ context.Context, _ client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	object := into.(*metav1.PartialObjectMetadata)
	if object.Kind == namespaceKind.Kind {
		object.Labels = map[string]string{podconfig.NamespaceLabel: podconfig.NamespaceLabelValue}
		return nil
	}
	object.Annotations = map[string]string{"ack.alibabacloud.com/role-arn": "acs:ram::1:role/x"}
	return nil
}

// reviewOf is an AdmissionReview of about n bytes for a pod with two secrets. What makes it long is what makes real pods long:
// environment variables and managed fields.
func reviewOf(b *testing.B, n int) []byte {
	var env []any
	fields := map[string]any{}
	for i := 0; ; i++ {
		body, err := json.Marshal(map[string]any{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": map[string]any{
			"uid": "11111111-2222-3333-4444-555555555555", "operation": "CREATE", "namespace": "shop",
			"userInfo": map[string]any{"username": "system:serviceaccount:kube-system:replicaset-controller"},
			"object": map[string]any{
				"apiVersion": "v1", "kind": "Pod",
				"metadata": map[string]any{
					"generateName": "web-",
					"annotations": map[string]any{podconfig.Prefix + "inject": "true", podconfig.Prefix + "secret.db": "app/db", podconfig.Prefix +
						"secret.key": "{name: app/key, format: json}"},
					"managedFields": []any{map[string]any{"manager": "kube-controller-manager", "operation": "Update", "fieldsV1": fields}},
				},
				"spec": map[string]any{"serviceAccountName": "web", "containers": []any{map[string]any{"name": "web", "image": "web", "env": env}}},
			},
		}})
		if err != nil {
			b.Fatal(err)
		}
		if len(body) >= n {
			return body
		}
		for range max(1, (n-len(body))/400) {
			i++
			env = append(env, map[string]any{"name": fmt.Sprintf("SETTING_%d", i),
				"valueFrom": map[string]any{"configMapKeyRef": map[string]any{"name": "settings", "key": fmt.Sprintf("setting.%d", i)}}})
			fields[fmt.Sprintf(`k:{"name":"SETTING_%d"}`, i)] = map[string]any{".": map[string]any{}, "f:name": map[string]any{},
				"f:valueFrom": map[string]any{"f:configMapKeyRef": map[string]any{}}}
		}
	}
}
