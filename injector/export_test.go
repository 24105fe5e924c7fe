package injector

import (
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector/kubejson"
)

// UnmarshalJSON is UnmarshalJSONFrom, for the API server's decoder.
func (a *Amount) UnmarshalJSON(text []byte) error { return kubejson.Unmarshal(text, a) }

// Encode encodes the agent's document.
func Encode(doc agentconfig.Config) string { return encode(doc) }

// Of returns the image of the agent in a namespace with the labels, and whether the labels matter.
func (in *Injector) Of(namespace string, labels map[string]string) (image string, byLabels bool) {
	return in.in(namespace, labels).policy.Agent.Image, in.byLabels(namespace)
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
