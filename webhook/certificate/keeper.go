// Package certificate keeps the serving certificate of an admission webhook, and its clients' trust in it, so that its rotation
// drops no request.
//
// It has two sides, for two processes with different rights: a Source reads the certificate that a listener serves, and a Keeper
// writes certificates and what is trusted.
package certificate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// A Keeper writes what the process that listens must not be able to write: keys, certificates, and what the API server trusts.
// It has no leader. It changes an object only in the state in which it has read it, so several of them agree on what the first
// of them wrote, and nothing waits for it: certificates are renewed days before they expire.
type Keeper struct {
	options Options
	watched *watched
	next    func(context.Context) (task, error)
	was     sync.Map // of *corev1.Secret, as last read, by name
}

// A task is the first object that is missing or wrong in the cluster. An empty what means that there is none. A nil do means that the
// keeper only waits, because another component makes the object.
type task struct {
	what string
	do   func(context.Context) error
}

// maxTasks is more than a look can find to do: an authority, two configurations, a certificate, each again if others were faster.
const maxTasks = 20

// Run does what is to be done until ctx ends.
func (k *Keeper) Run(ctx context.Context) error { return k.watched.run(ctx, k.keep) }

func (k *Keeper) keep(ctx context.Context) error {
	for range maxTasks {
		t, err := k.next(ctx)
		if err != nil || t.do == nil {
			return err
		}
		switch err := t.do(ctx); {
		case apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err): // the next look sees what another has written
		case err != nil:
			return fmt.Errorf("%s: %w", t.what, err)
		default:
			k.options.Log.Info("Done", "task", t.what)
		}
	}
	return errors.New("what is written does not stay: something else writes the same objects")
}

// Check is nil if nothing is to be done. It changes nothing.
func (k *Keeper) Check(ctx context.Context) error {
	t, err := k.next(ctx)
	if err == nil && t.what != "" {
		err = errors.New("to be done: " + t.what)
	}
	return err
}

// get reads a Secret; one that does not exist stays without a resourceVersion.
func (k *Keeper) get(ctx context.Context, secret *corev1.Secret) (*corev1.Secret, error) {
	err := k.watched.client.Get(ctx, client.ObjectKeyFromObject(secret), secret)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("read the Secret %s: %w", secret.Name, err)
	}
	if err == nil {
		k.was.Store(secret.Name, secret.DeepCopy())
	}
	return secret, nil
}

// put replaces the data of a Secret, unless it has changed since it was read. One that was deleted comes back with its labels and
// annotations: by these Helm knows it for its own, as after a rollback and the next upgrade.
func (k *Keeper) put(ctx context.Context, secret *corev1.Secret, data map[string][]byte) error {
	secret.Data = data
	if secret.ResourceVersion == "" {
		secret.Labels = map[string]string{"app.kubernetes.io/name": k.options.Service}
		if was, found := k.was.Load(secret.Name); found {
			secret.Labels, secret.Annotations = was.(*corev1.Secret).Labels, was.(*corev1.Secret).Annotations
		}
		return k.watched.client.Create(ctx, secret)
	}
	return k.watched.client.Update(ctx, secret)
}

// NewCertManager adds the authority of cert-manager's certificate to the Secret that cert-manager's cainjector copies to the webhook
// configurations, beside the authorities that were there before; cainjector itself would replace one by the next at once.
func NewCertManager(o Options) (*Keeper, error) {
	w, err := watch(o, o.servingSecret(), o.bundleSecret())
	if err != nil {
		return nil, fmt.Errorf("the authorities of cert-manager: %w", err)
	}
	k := &Keeper{options: o, watched: w}
	k.next = k.bundle
	return k, nil
}

func (k *Keeper) bundle(ctx context.Context) (task, error) {
	serving, err := k.get(ctx, k.options.servingSecret())
	if err != nil {
		return task{}, err
	}
	ca := serving.Data["ca.crt"]
	switch {
	case len(serving.Data[corev1.TLSCertKey]) == 0:
		return task{what: "cert-manager has not issued the certificate in the Secret " + serving.Name + " yet"}, nil
	case len(parse(ca)) == 0:
		return task{}, fmt.Errorf("there is no authority under ca.crt in the Secret %s: the issuer must give one with the certificate",
			serving.Name)
	}
	published, err := k.get(ctx, k.options.bundleSecret())
	if err != nil {
		return task{}, err
	}
	merged := merge(published.Data["ca.crt"], ca, "", time.Now())
	if bytes.Equal(merged, published.Data["ca.crt"]) {
		return task{}, nil
	}
	return task{"add the authority to the Secret " + published.Name, func(ctx context.Context) error {
		data := maps.Clone(published.Data)
		if data == nil {
			data = map[string][]byte{}
		}
		data["ca.crt"] = merged
		return k.put(ctx, published, data)
	}}, nil
}
