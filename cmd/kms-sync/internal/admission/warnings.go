package admission

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/content"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector/kubejson"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/review"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/share"
)

// handler answers AdmissionReviews of ExternalSecrets and stores.
func handler(log logr.Logger, draining *atomic.Bool) http.Handler {
	a := adviser{turns: make(chan struct{}, runtime.GOMAXPROCS(0))}
	mux := http.NewServeMux()
	mux.Handle(path, &review.Handler[object]{
		Decide: a.decide, Observe: func(review.Verdict, time.Duration) {}, MaxBody: review.TwoObjects, Bytes: share.LongRequests(),
		Advisory: true, Log: log, Draining: draining,
	})
	return mux
}

// An object is as much of an ExternalSecret or a store as is checked. The rest is not decoded: it is longer in memory than in JSON.
type object struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec jsontext.Value `json:"spec"`
}

// decode returns the object in the types that the controller reads.
func (o *object) decode(namespace string) (apiruntime.Object, error) {
	meta := metav1.ObjectMeta{Namespace: namespace, Annotations: o.Metadata.Annotations}
	var of apiruntime.Object
	var spec any
	switch o.Kind {
	case "ExternalSecret":
		es := &v1alpha1.ExternalSecret{ObjectMeta: meta}
		of, spec = es, &es.Spec
	case content.KindSecretStore:
		store := &v1alpha1.SecretStore{ObjectMeta: meta}
		of, spec = store, &store.Spec
	case content.KindClusterSecretStore:
		store := &v1alpha1.ClusterSecretStore{ObjectMeta: meta}
		of, spec = store, &store.Spec
	default:
		return nil, fmt.Errorf("the object is no ExternalSecret, SecretStore or ClusterSecretStore")
	}
	if len(o.Spec) == 0 {
		return of, nil
	}
	if err := kubejson.Unmarshal(o.Spec, spec); err != nil {
		return nil, fmt.Errorf("decode the spec of the %s: %w", o.Kind, err)
	}
	return of, nil
}

// adviser checks as many objects at a time as there are processors: more would take memory and finish no earlier.
type adviser struct{ turns chan struct{} }

// The reasons of verdicts, for the log.
const (
	reasonValid    = "valid"
	reasonMistakes = "mistakes"
	reasonUnread   = "unreadable"
)

func (a adviser) decide(ctx context.Context, req *review.Request[object]) review.Verdict {
	select {
	case a.turns <- struct{}{}:
		defer func() { <-a.turns }()
	case <-ctx.Done():
		return review.Failed(review.Busy, share.ErrBusy)
	}
	of, err := req.Object.decode(req.Namespace)
	if err != nil {
		return review.Verdict{Result: review.Errored, Reason: reasonUnread, Err: err}
	}
	mistakes := content.CheckObject(of)
	if len(mistakes) == 0 {
		return review.Verdict{Result: review.Skipped, Reason: reasonValid}
	}
	return review.Verdict{Result: review.Skipped, Reason: reasonMistakes, Warnings: warnings(mistakes)}
}

// What the API server passes on: all warnings of a request if they have so many characters together, and else the beginning of each, until
// they have: https://github.com/kubernetes/kubernetes/blob/master/staging/src/k8s.io/apiserver/pkg/endpoints/filters/warning.go
const (
	maxTogether = 4096
	maxEach     = 256
)

const whole = "these warnings are cut short; kubectl kms validate -f says all"

// warnings are the mistakes as the API server passes them on.
func warnings(mistakes config.Mistakes) []string {
	texts := make([]string, 0, len(mistakes))
	together := 0
	for _, m := range mistakes {
		text := review.OneLine(m.String())
		texts = append(texts, text)
		together += utf8.RuneCountInString(text)
	}
	if together <= maxTogether {
		return texts
	}
	left := maxTogether - utf8.RuneCountInString(whole)
	for i, text := range texts {
		if runes := []rune(text); len(runes) > maxEach {
			texts[i] = string(runes[:maxEach-1]) + "…"
		}
		if left -= utf8.RuneCountInString(texts[i]); left < 0 {
			texts = texts[:i]
			break
		}
	}
	return append(texts, whole)
}
