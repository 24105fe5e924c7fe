package webhook

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"github.com/kms-agent-injector/kms-agent-injector/injector"
)

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
