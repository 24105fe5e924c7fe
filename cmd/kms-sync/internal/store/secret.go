package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/storespec"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// secretKey is a key of a Secret.
type secretKey struct {
	types.NamespacedName
	key string
}

func (s secretKey) String() string { return "Secret " + s.NamespacedName.String() + " key " + s.key }

// secretOf returns where a store's credentials are: in the store's namespace, for a ClusterSecretStore in the ExternalSecret's.
func (q *query) secretOf(field string, ref v1alpha1.SecretRef, o origin) (secretKey, error) {
	own := q.in.name
	if o.namespace != "" {
		own = o.namespace
	}
	s := secretKey{types.NamespacedName{Namespace: own, Name: ref.Name}, ref.Key}
	if ref.Namespace != "" {
		s.Namespace = ref.Namespace
	}
	if s.Namespace != own && !config.AnyMatches(q.Config.SharedSecrets, s.Namespace+"/"+s.Name) {
		return s, refuse(Forbidden, "%s names a Secret of namespace %s instead of %s; put it into %s and remove namespace, or have the "+
			"administrator list %s/%s in sharedSecrets", field, s.Namespace, own, own, s.Namespace, s.Name)
	}
	return s, nil
}

// read reads keys of Secrets from the API server itself. Its error is a *Refusal, or says that the API server could not be asked.
func (r *Resolver) read(ctx context.Context, keys ...secretKey) (values [][]byte, err error) {
	secrets := map[types.NamespacedName]*corev1.Secret{}
	for _, k := range keys {
		secret := secrets[k.NamespacedName]
		if secret == nil {
			secret = &corev1.Secret{}
			switch err := r.Live.Get(ctx, k.NamespacedName, secret); {
			case apierrors.IsNotFound(err):
				return nil, refuse(NotReady, "the Secret %s does not exist; create it with the key %s", k.NamespacedName, k.key)
			case apierrors.IsForbidden(err):
				return nil, refuse(NotReady, "kms-sync may not read the Secret %s; the administrator must give it get on secrets there",
					k.NamespacedName)
			case err != nil:
				return nil, fmt.Errorf("read the Secret %s: %w", k.NamespacedName, err)
			}
			secrets[k.NamespacedName] = secret
		}
		value, ok := secret.Data[k.key]
		if !ok || len(bytes.TrimSpace(value)) == 0 {
			return nil, refuse(NotReady, "the Secret %s has no value under the key %s; write it there", k.NamespacedName, k.key)
		}
		values = append(values, value)
	}
	return values, nil
}

// clientKey returns the identity of a client key.
func (q *query) clientKey(auth *v1alpha1.ClientKeyAuth, o origin) (Asker, error) {
	host := strings.TrimSpace(auth.Endpoint)
	if !strings.Contains(host, ".") {
		host += ".cryptoservice.kms.aliyuncs.com"
	}
	settings := q.KMS
	settings.Endpoint = host
	if roots, err := storespec.Authority(auth.CA); err != nil {
		return Asker{}, err
	} else if roots != nil {
		settings.Roots, settings.CAFile = roots, ""
	}
	key, err := q.secretOf("clientKeyContent", auth.ClientKeyContent, o)
	if err != nil {
		return Asker{}, err
	}
	password, err := q.secretOf("password", auth.Password, o)
	if err != nil {
		return Asker{}, err
	}
	who := Who{
		Kind: ClientKey, Secrets: key.String() + ", " + password.String(),
		Instance: fmt.Sprintf("%s %x", host, sha256.Sum256([]byte(auth.CA))),
	}
	r := q.Resolver // an identity outlives the resolution
	read := remembered(func() ([]byte, []byte, error) {
		ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
		defer cancel()
		values, err := r.read(ctx, key, password)
		if err != nil {
			return nil, nil, err // which names no store: all that have an equal identity share it
		}
		return values[0], values[1], nil
	})
	return Asker{Who: who, Endpoint: host, Instance: func() (Instance, error) {
		c, err := kms.NewClientKey(settings, kms.ClientKey{Name: "in " + key.String(), Read: read})
		return &instance{c, read}, err
	}}, nil
}

// instance is a client that does not outlive its client key: kms.ClientKeyClient keeps one that can no longer be read.
type instance struct {
	*kms.ClientKeyClient
	read func() (key, password []byte, err error)
}

func (i *instance) GetSecretValue(ctx context.Context, ref kms.Ref) (kms.Secret, error) {
	var gone *Refusal
	if _, _, err := i.read(); errors.As(err, &gone) {
		return kms.Secret{}, gone
	}
	return i.ClientKeyClient.GetSecretValue(ctx, ref)
}

// readTimeout bounds a reading of Secrets that no reconciliation waits for.
const readTimeout = 10 * time.Second

// remembered reads a client key once a minute at most.
func remembered(read func() (key, password []byte, err error)) func() (key, password []byte, err error) {
	var mu sync.Mutex
	var key, password []byte
	var at time.Time
	return func() ([]byte, []byte, error) {
		mu.Lock()
		defer mu.Unlock()
		if key != nil && time.Since(at) < accessKeyLife {
			return key, password, nil
		}
		k, p, err := read()
		if err != nil {
			return nil, nil, err
		}
		key, password, at = k, p, time.Now()
		return key, password, nil
	}
}
