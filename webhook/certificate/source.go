package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// A Source is the serving certificate of the process that listens. It follows a folder or a Secret that another program writes, and
// changes nothing in the cluster. There may be no certificate at first.
//
// It serves the newest certificate when the configurations have trusted it, and it has been valid, for a while, and until then the one
// before it, as long as they still trust that. So no request meets a certificate that it cannot verify.
type Source struct {
	from    string // what is read, for people
	dir     string // "": the Secret
	options Options
	watched *watched
	settle  time.Duration

	mu       sync.Mutex
	newest   *tls.Certificate // nil until there is one
	served   *tls.Certificate
	reported string    // why there is none that can be used
	looked   bool      // whether bundles are known
	bundles  [][]byte  // the caBundles by which the API server trusts the webhook
	since    time.Time // when they changed; zero: before this process looked
}

// readInterval is how often files are read. The kernel could say when they change, but on a busy node it has no watches left
// to give.
const readInterval = time.Second

// NewFiles serves tls.crt and tls.key of a folder, which must exist; nothing is read before Run.
func NewFiles(dir string, o Options) (*Source, error) {
	if _, err := os.ReadDir(dir); err != nil {
		return nil, fmt.Errorf("find the serving certificate: %w", err)
	}
	return newSource("the folder "+dir, dir, o, o.configurations())
}

// NewSecret serves tls.crt and tls.key of the Secret that NewSelfSigned's Keeper writes. It is read from the API server: a mounted
// Secret arrives with the kubelet's next look, up to a minute and a half after the first installation has written it.
func NewSecret(o Options) (*Source, error) {
	secret := o.servingSecret()
	return newSource("the Secret "+secret.Name, "", o, append(o.configurations(), secret))
}

func newSource(from, dir string, o Options, objects []client.Object) (*Source, error) {
	w, err := watch(o, objects...)
	if err != nil {
		return nil, fmt.Errorf("the serving certificate in %s: %w", from, err)
	}
	return &Source{from: from, dir: dir, options: o, watched: w, settle: settleTime}, nil
}

// Run follows the certificate, and what is trusted, until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.watched.run(ctx, s.look) })
	if s.dir != "" {
		group.Go(func() error {
			wait.UntilWithContext(ctx, func(context.Context) { s.report(s.readFiles()) }, readInterval)
			return nil
		})
	}
	return group.Wait()
}

func (s *Source) look(ctx context.Context) error {
	var seen [][]byte
	err := each(ctx, s.watched.client, s.options, func(_ client.Object, bundles []*[]byte) {
		for _, bundle := range bundles {
			seen = append(seen, *bundle)
		}
	})
	if err != nil {
		return err
	}
	s.remember(seen, time.Now())
	if s.dir != "" {
		return nil
	}
	secret := s.options.servingSecret()
	err = s.watched.client.Get(ctx, client.ObjectKeyFromObject(secret), secret)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read the serving certificate: %w", err)
	}
	if err == nil {
		err = s.take(tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey]))
	}
	s.report(err)
	return nil
}

func (s *Source) readFiles() error {
	return s.take(tls.LoadX509KeyPair(filepath.Join(s.dir, corev1.TLSCertKey), filepath.Join(s.dir, corev1.TLSPrivateKeyKey)))
}

// take makes a pair the newest. What cannot be used, such as a certificate whose key is not there yet, changes nothing.
func (s *Source) take(pair tls.Certificate, err error) error {
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.newest == nil || !slices.EqualFunc(s.newest.Certificate, pair.Certificate, bytes.Equal) {
		s.newest = &pair
	}
	return nil
}

// remember keeps the bundles of all existing webhooks.
func (s *Source) remember(bundles [][]byte, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.looked && !slices.EqualFunc(s.bundles, bundles, bytes.Equal) {
		s.since = now
	}
	s.looked, s.bundles = true, bundles
}

// report logs why no newer certificate could be used, each time that the reason changes.
func (s *Source) report(err error) {
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && reason != s.reported {
		s.options.Log.Info("Waiting for a serving certificate", "from", s.from, "reason", reason)
	}
	s.reported = reason
}

// GetCertificate is for tls.Config.
func (s *Source) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.newest == nil {
		return nil, fmt.Errorf("no serving certificate has been read from tls.crt and tls.key in %s yet", s.from)
	}
	if s.newest != s.served && s.due(time.Now()) {
		s.served = s.newest
		s.options.Log.Info("Serving a new certificate", "expires", s.newest.Leaf.NotAfter)
	}
	return s.served, nil
}

// Ready is nil while the API server could accept the certificate.
func (s *Source) Ready() error {
	c, err := s.GetCertificate(nil)
	if err != nil {
		return err
	}
	now := time.Now()
	if err := current(c, now); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trust(c, now, 0)
}

// settleTime is how long after a webhook configuration's change every API server is taken to have seen it, and how far behind
// this clock theirs may be.
const settleTime = 10 * time.Second

// due says whether it is time to turn from what is served to the newest.
func (s *Source) due(now time.Time) bool {
	if s.served == nil || current(s.served, now) != nil {
		return true
	}
	settle := s.settle
	if s.trust(s.served, now, 0) != nil {
		settle = 0 // nothing is lost by turning early
	}
	return s.trust(s.newest, now, settle) == nil
}

// trust is nil if every webhook that exists has trusted the certificate, and the certificate has been valid, for at least the given
// time.
func (s *Source) trust(serving *tls.Certificate, now time.Time, settled time.Duration) error {
	if !s.looked {
		return errors.New("the webhook configurations have not been read yet")
	}
	for _, bundle := range s.bundles {
		if err := verify(bundle, serving, s.options.serverName(), now.Add(-settled)); err != nil {
			return fmt.Errorf("a webhook configuration %s does not trust the serving certificate: %w", s.options.Configuration, err)
		}
	}
	if now.Sub(s.since) < settled {
		return errors.New("the webhook configurations have changed just now")
	}
	return nil
}

func current(c *tls.Certificate, now time.Time) error {
	if now.After(c.Leaf.NotAfter) {
		return fmt.Errorf("the serving certificate expired at %s", c.Leaf.NotAfter.Format(time.RFC3339))
	}
	return nil
}
