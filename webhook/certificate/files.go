package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Files serves the tls.crt and tls.key of a folder and follows their changes: what cert-manager, or anything else, mounts there.
// The folder may be empty at first.
//
// With Options.Secret it publishes the folder's ca.crt in that Secret, beside the authorities that were there before, for
// whatever copies the Secret to the webhook configurations. Without, whoever writes the files sees to it that they are trusted.
type Files struct {
	dir            string
	newest         atomic.Pointer[tls.Certificate] // nil until there is one
	configurations *configurations
	handover       *handover
}

// readInterval is how often the files are read. The kernel could say when they change, but on a busy node it has no watches left
// to give.
const readInterval = time.Second

// NewFiles prepares Files for a folder, which must exist; nothing is read before Run.
func NewFiles(dir string, o Options) (*Files, error) {
	if _, err := os.ReadDir(dir); err != nil {
		return nil, fmt.Errorf("find the serving certificate: %w", err)
	}
	c, err := newConfigurations(o)
	if err != nil {
		return nil, fmt.Errorf("the serving certificate in %s: %w", dir, err)
	}
	f := &Files{dir: dir, configurations: c, handover: newHandover(o, c)}
	if o.Secret != "" {
		c.publish = f.publish
	}
	return f, nil
}

// Run follows the files, and what is trusted, until ctx ends.
func (f *Files) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return f.follow(ctx) })
	group.Go(func() error { return f.configurations.run(ctx) })
	return group.Wait()
}

// follow reads the files again and again; what cannot be used, such as a certificate whose key is not there yet, changes nothing.
func (f *Files) follow(ctx context.Context) error {
	tick := time.NewTicker(readInterval)
	defer tick.Stop()
	for reported := ""; ; {
		switch changed, err := f.read(); {
		case err == nil:
			reported = ""
			if changed {
				f.configurations.look()
			}
		case err.Error() != reported:
			reported = err.Error()
			f.configurations.options.Log.Info("Waiting for a serving certificate", "folder", f.dir, "reason", reported)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (f *Files) read() (changed bool, err error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(f.dir, "tls.crt"), filepath.Join(f.dir, "tls.key"))
	if err != nil {
		return false, err
	}
	if old := f.newest.Load(); old != nil && slices.EqualFunc(old.Certificate, pair.Certificate, bytes.Equal) {
		return false, nil
	}
	f.newest.Store(&pair)
	return true, nil
}

// GetCertificate is for tls.Config.
func (f *Files) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	newest := f.newest.Load()
	if newest == nil {
		return nil, fmt.Errorf("no serving certificate has been read from tls.crt and tls.key in %s yet", f.dir)
	}
	return f.handover.serve(newest), nil
}

// Ready is nil while the API server could accept the certificate.
func (f *Files) Ready() error {
	c, err := f.GetCertificate(nil)
	if err != nil {
		return err
	}
	return f.handover.ready(c)
}

// publish adds the folder's authority to the Secret, which exists already.
func (f *Files) publish(ctx context.Context) error {
	if f.newest.Load() == nil {
		return nil // nothing is there yet
	}
	c, o := f.configurations.client, f.configurations.options
	ca, err := os.ReadFile(filepath.Join(f.dir, "ca.crt"))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(parse(ca)) == 0 {
		return fmt.Errorf("there is no authority in %s: the issuer must give one with the certificate", filepath.Join(f.dir, "ca.crt"))
	}
	if err != nil {
		return fmt.Errorf("read the authority: %w", err)
	}
	var secret corev1.Secret
	if err := c.Get(ctx, types.NamespacedName{Namespace: o.Namespace, Name: o.Secret}, &secret); err != nil {
		return fmt.Errorf("read the bundle's Secret: %w", err)
	}
	merged := merge(secret.Data["ca.crt"], ca, "", time.Now())
	if bytes.Equal(merged, secret.Data["ca.crt"]) {
		return nil
	}
	changed := secret.DeepCopy() // what the cache gave stays as it is
	if changed.Data == nil {
		changed.Data = map[string][]byte{}
	}
	changed.Data["ca.crt"] = merged
	if err := c.Update(ctx, changed); err != nil { // refused if another replica was faster: the next look sees what it wrote
		return fmt.Errorf("add the authority to Secret %s: %w", o.Secret, err)
	}
	o.Log.Info("Authority published", "secret", o.Secret)
	return nil
}
