package injector

import (
	"context"

	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector/kubejson"
)

// UnmarshalJSON is UnmarshalJSONFrom, for the API server's decoder.
func (a *Amount) UnmarshalJSON(text []byte) error { return kubejson.Unmarshal(text, a) }

// Encode encodes the agent's document.
func Encode(doc agentconfig.Config) string { return encode(doc) }

// Of returns the image of the agent in a namespace with the labels, and whether the labels matter.
func (in *Injector) Of(namespace string, labels map[string]string) (image string, byLabels bool) {
	cluster := &labelled{labels: labels}
	of, err := in.of(context.Background(), namespace, cluster)
	if err != nil {
		panic(err)
	}
	return of.policy.Agent.Image, cluster.asked
}

type labelled struct {
	Cluster
	labels map[string]string
	asked  bool
}

func (l *labelled) NamespaceLabels(context.Context, string) (map[string]string, error) {
	l.asked = true
	return l.labels, nil
}

// Shapes returns how many shapes of pods are remembered.
func (in *Injector) Shapes() (n int) {
	for range in.shapes.Range {
		n++
	}
	return n
}

// MaxShapes is the most.
const MaxShapes = maxShapes
