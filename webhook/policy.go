package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/review"
)

// policyInterval is how often the administrator's file is looked at. The kubelet takes up to a minute to bring a ConfigMap's change.
const policyInterval = 5 * time.Second

// A policy is the webhook's configuration file, and an injector for its last valid content.
type policy struct {
	file, version string
	log           logr.Logger
	skew          skew

	now  atomic.Pointer[injector.Injector]
	read [][]byte // the file and the CA files that now was built from
	err  string   // the last error in them, to log it once

	reloaded func(ctx context.Context, wrong error) // called after each change, with the error in it
}

func loadPolicy(file, version string, log logr.Logger) (*policy, error) {
	p := &policy{file: file, version: version, log: log, reloaded: func(context.Context, error) {}}
	_, err := p.load()
	return p, err
}

// current returns the injector, and whether there may be kubelets that run no native sidecars.
func (p *policy) current() (in *injector.Injector, plainSidecars bool) {
	return p.now.Load(), p.skew.plain.Load()
}

// watch reloads the configuration when its files change, until ctx ends. An invalid change leaves the last good one in force.
func (p *policy) watch(ctx context.Context) error {
	wait.UntilWithContext(ctx, func(ctx context.Context) {
		changed, err := p.load()
		switch {
		case err != nil && err.Error() != p.err:
			p.err = err.Error()
			p.log.Error(err, "Configuration rejected; the last good one stays in force", "file", p.file)
			p.reloaded(ctx, err)
		case err == nil && (changed || p.err != ""): // also when the last good one has come back
			p.err = ""
			p.log.Info("Configuration reloaded", "file", p.file)
			p.reloaded(ctx, nil)
		}
	}, policyInterval)
	return nil
}

// load reports whether what the files say has changed since they were last right.
func (p *policy) load() (changed bool, err error) {
	document, err := os.ReadFile(p.file)
	if err != nil {
		return false, fmt.Errorf("read the webhook's configuration: %w", err)
	}
	policy, err := clusterconfig.Load(document, func(name string) ([]byte, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(filepath.Dir(p.file), name)
		}
		return os.ReadFile(name)
	})
	if err != nil {
		return false, fmt.Errorf("%s: %w", p.file, err)
	}
	read := [][]byte{document, []byte(policy.KMS.CABundle), []byte(policy.STS.CABundle)}
	if slices.EqualFunc(p.read, read, bytes.Equal) {
		return false, nil
	}
	in, err := injector.New(policy, p.version)
	if err != nil {
		return false, fmt.Errorf("%s: %w", p.file, err)
	}
	p.now.Store(in)
	p.read = read
	return true, nil
}

// How often the API server is asked for its version: until it has said it, and afterwards, since a cluster is upgraded under the
// webhook's feet.
const (
	versionRetry    = 2 * time.Second
	versionInterval = 5 * time.Minute
)

// A skew knows whether the version of the API server leaves room for kubelets that know no native sidecars.
type skew struct {
	known, plain atomic.Bool
}

// watch keeps it true until ctx ends.
func (s *skew) watch(ctx context.Context, config *rest.Config, log logr.Logger) error {
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return fmt.Errorf("ask for the API server's version: %w", err)
	}
	for {
		pause := versionInterval
		if err := s.ask(ctx, client, log); err != nil {
			log.Error(err, "The API server did not say its version")
			pause = versionRetry
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

func (s *skew) ask(ctx context.Context, client *discovery.DiscoveryClient, log logr.Logger) error {
	info, err := client.ServerVersionWithContext(ctx)
	if err != nil {
		return err
	}
	native, err := injector.NativeBeside(info.GitVersion)
	if err != nil {
		return err
	}
	if before := s.plain.Swap(!native); !s.known.Swap(true) || before == native {
		log.Info("Detected native sidecar support", "native", native, "server", info.GitVersion)
	}
	return nil
}

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
