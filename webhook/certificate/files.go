package certificate

import (
	"context"
	"crypto/tls"
	"fmt"
	"path/filepath"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

// Files serves dir/tls.crt and dir/tls.key and follows their changes: what cert-manager, or anything else, mounts there. Who
// writes them sees to it that the API server trusts the next certificate before it is there.
type Files struct {
	watcher *certwatcher.CertWatcher
}

// NewFiles reads the files, which must exist.
func NewFiles(dir string) (*Files, error) {
	watcher, err := certwatcher.New(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		return nil, fmt.Errorf("read the serving certificate in %s: %w", dir, err)
	}
	return &Files{watcher}, nil
}

// Run follows the files until ctx ends.
func (f *Files) Run(ctx context.Context) error { return f.watcher.Start(ctx) }

// GetCertificate is for tls.Config.
func (f *Files) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return f.watcher.GetCertificate(hello)
}

// Ready is nil while a client could accept the certificate.
func (f *Files) Ready() error {
	c, err := f.watcher.GetCertificate(nil)
	if err != nil {
		return err
	}
	return current(c, time.Now())
}

func current(c *tls.Certificate, now time.Time) error {
	if now.After(c.Leaf.NotAfter) {
		return fmt.Errorf("the serving certificate expired at %s", c.Leaf.NotAfter.Format(time.RFC3339))
	}
	return nil
}
