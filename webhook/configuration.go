package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/review"
)

// configMap is the ConfigMap of the webhook's configuration.
type configMap struct {
	Metadata struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Data map[string]string `json:"data"`
}

// maxConfiguration limits the length of a configuration that the webhook checks at admission, since every caller may ask for a check.
// One of that length takes some ten megabytes for a moment, so they are checked one after the other.
const maxConfiguration = 64 << 10

// validateConfiguration refuses a change of the webhook's own ConfigMap that would be rejected when it arrives, and with which no replica
// would start. A configuration with another agent.image comes with another version of the webhook, which may know more: it is warned of.
func (a *admission) validateConfiguration(_ context.Context, req *review.Request[configMap]) review.Verdict {
	if req.Namespace != a.own.Namespace || req.Object.Metadata.Name != a.own.Name {
		return skipped(reasonNotAsked)
	}
	name := filepath.Base(a.policy.file)
	document := []byte(req.Object.Data[name])
	if len(document) > maxConfiguration {
		return review.Verdict{Result: review.Skipped, Reason: reasonConfiguration, Warnings: []string{fmt.Sprintf(
			"%s is not checked before it is in force: it has more than %d bytes", name, maxConfiguration)}}
	}
	a.checking.Lock()
	defer a.checking.Unlock()
	err := a.policy.check(document, req.Object.Data)
	switch {
	case err == nil:
		return skipped(reasonValid)
	case a.policy.otherImage(document):
		return review.Verdict{Result: review.Skipped, Reason: reasonConfiguration, Warnings: []string{fmt.Sprintf(
			"%s has another agent.image, and is taken to be for another version of the webhook; the one that runs keeps its last good "+
				"configuration: %v", name, err)}}
	}
	return review.Verdict{
		Result: review.Denied, Reason: reasonConfiguration, Err: fmt.Errorf("%s: %w", name, err), Code: http.StatusBadRequest,
	}
}

// check says what is wrong with a configuration beside other files of its ConfigMap. Files elsewhere are not looked at: the question may be
// a stranger's.
func (p *policy) check(document []byte, files map[string]string) error {
	elsewhere := errors.New("it is not in the ConfigMap")
	policy, err := clusterconfig.Load(document, func(name string) ([]byte, error) {
		if text, found := files[name]; found {
			return []byte(text), nil
		}
		if filepath.IsAbs(name) {
			return nil, elsewhere
		}
		return nil, fmt.Errorf("the ConfigMap has no key %s", name)
	})
	if errors.Is(err, elsewhere) {
		policy, err = clusterconfig.Read(document)
	}
	if err == nil {
		_, err = injector.New(policy, p.version)
	}
	return err
}

// otherImage reports whether a configuration has another agent.image than the one in force.
func (p *policy) otherImage(document []byte) bool {
	var said struct {
		Agent struct {
			Image string `yaml:"image"`
		} `yaml:"agent"`
	}
	in, _ := p.current()
	return yaml.Unmarshal(document, &said) == nil && said.Agent.Image != "" && said.Agent.Image != in.Policy().Agent.Image
}
