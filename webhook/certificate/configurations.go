package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// each calls do with both configurations, where they exist, and with the bundles of their webhooks.
func each(ctx context.Context, c client.Client, o Options, do func(configuration client.Object, bundles [][]byte) error) error {
	for _, configuration := range o.configurations() {
		err := c.Get(ctx, client.ObjectKeyFromObject(configuration), configuration)
		if apierrors.IsNotFound(err) {
			continue // not installed, or not yet
		}
		if err != nil {
			return fmt.Errorf("read %T %s: %w", configuration, o.Configuration, err)
		}
		if err := do(configuration, bundlesOf(configuration)); err != nil {
			return err
		}
	}
	return nil
}

func bundlesOf(configuration client.Object) (bundles [][]byte) {
	switch c := configuration.(type) {
	case *admissionregistrationv1.MutatingWebhookConfiguration:
		for _, w := range c.Webhooks {
			bundles = append(bundles, w.ClientConfig.CABundle)
		}
	case *admissionregistrationv1.ValidatingWebhookConfiguration:
		for _, w := range c.Webhooks {
			bundles = append(bundles, w.ClientConfig.CABundle)
		}
	}
	return bundles
}

// trusted is what the API server trusts the webhook by: the caBundles of the two webhook configurations.
type trusted struct {
	configuration string
	seen          atomic.Pointer[bundles]
}

// bundles are those of all webhooks that exist, as the API server last showed them.
type bundles struct {
	all   [][]byte
	since time.Time // zero: since before this process looked
}

func (t *trusted) remember(all [][]byte, now time.Time) {
	old := t.seen.Load()
	switch {
	case old == nil:
		t.seen.Store(&bundles{all: all})
	case !slices.EqualFunc(old.all, all, bytes.Equal):
		t.seen.Store(&bundles{all: all, since: now})
	}
}

// trust is nil if every webhook that exists has trusted the certificate, and the certificate has been valid, for at least the given
// time.
func (t *trusted) trust(serving *tls.Certificate, name string, now time.Time, settled time.Duration) error {
	seen := t.seen.Load()
	if seen == nil {
		return errors.New("the webhook configurations have not been read yet")
	}
	for _, bundle := range seen.all {
		if err := verify(bundle, serving, name, now.Add(-settled)); err != nil {
			return fmt.Errorf("a webhook configuration %s does not trust the serving certificate: %w", t.configuration, err)
		}
	}
	if now.Sub(seen.since) < settled {
		return errors.New("the webhook configurations have changed just now")
	}
	return nil
}
