package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// NewSelfSigned keeps an authority and a serving certificate in a Secret each, and the authority in the caBundles of the webhook
// configurations. Each is renewed when a third of its life is left, or when its Secret is deleted or broken.
func NewSelfSigned(o Options) (*Keeper, error) {
	w, err := watch(o, append(o.configurations(), o.authoritySecret(), o.servingSecret())...)
	if err != nil {
		return nil, fmt.Errorf("self-signed certificates: %w", err)
	}
	k := &Keeper{options: o, watched: w}
	k.next = k.selfSigned
	return k, nil
}

// selfSigned is trusted first and signs then: a client that meets the new certificate trusts it already.
func (k *Keeper) selfSigned(ctx context.Context) (task, error) {
	authority, err := k.get(ctx, k.options.authoritySecret())
	if err != nil {
		return task{}, err
	}
	now := time.Now()
	if wrong := soundAuthority(authority.Data, now); wrong != nil {
		return task{fmt.Sprintf("make an authority in the Secret %s (%v)", authority.Name, wrong), func(ctx context.Context) error {
			data, err := newAuthority(now)
			if err != nil {
				return err
			}
			return k.put(ctx, authority, data)
		}}, nil
	}

	publish := task{}
	err = each(ctx, k.watched.client, k.options, func(configuration client.Object, bundles [][]byte) error {
		patch, err := adding(authority.Data["ca.crt"], configuration.GetResourceVersion(), bundles)
		if patch != nil && publish.do == nil {
			publish = task{fmt.Sprintf("add the authority to the caBundle of %T %s", configuration, k.options.Configuration),
				func(ctx context.Context) error {
					return k.watched.client.Patch(ctx, configuration, client.RawPatch(types.JSONPatchType, patch))
				}}
		}
		return err
	})
	if err != nil || publish.do != nil {
		return publish, err
	}

	serving, err := k.get(ctx, k.options.servingSecret())
	if err != nil {
		return task{}, err
	}
	if wrong := soundServing(serving.Data, authority.Data["ca.crt"], k.options.serverName(), now); wrong != nil {
		return task{fmt.Sprintf("sign a certificate in the Secret %s (%v)", serving.Name, wrong), func(ctx context.Context) error {
			data, err := sign(authority.Data, k.options.serverName(), now)
			if err != nil {
				return err
			}
			return k.put(ctx, serving, data)
		}}, nil
	}
	return task{}, nil
}

// soundAuthority says why an authority has to be made anew; nil if it can be used.
func soundAuthority(data map[string][]byte, now time.Time) error {
	pair, err := soundPair(data, now)
	switch {
	case err != nil:
		return err
	case !pair.Leaf.IsCA:
		return errors.New("it is not an authority")
	case !bytes.Equal(data["ca.crt"], data[corev1.TLSCertKey]):
		return errors.New("ca.crt is not tls.crt")
	}
	return nil
}

// soundServing says why a serving certificate has to be signed anew; nil if it can be used.
func soundServing(data map[string][]byte, ca []byte, name string, now time.Time) error {
	pair, err := soundPair(data, now)
	if err != nil {
		return err
	}
	return verify(ca, pair, name, now)
}

func soundPair(data map[string][]byte, now time.Time) (*tls.Certificate, error) {
	if len(data[corev1.TLSCertKey]) == 0 || len(data[corev1.TLSPrivateKeyKey]) == 0 {
		return nil, errors.New("there is none")
	}
	pair, err := tls.X509KeyPair(data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, err
	}
	if left, life := pair.Leaf.NotAfter.Sub(now), pair.Leaf.NotAfter.Sub(pair.Leaf.NotBefore); left < life/3 {
		return nil, fmt.Errorf("it ends at %s", pair.Leaf.NotAfter.Format(time.RFC3339))
	}
	return &pair, nil
}

// adding is a patch of nothing but the bundles that lack ca, for the state in which they were read; nil if none does.
func adding(ca []byte, resourceVersion string, bundles [][]byte) ([]byte, error) {
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	operations := []operation{{"test", "/metadata/resourceVersion", resourceVersion}}
	for i, bundle := range bundles {
		if merged := merge(bundle, ca, commonName, time.Now()); !bytes.Equal(merged, bundle) {
			operations = append(operations, operation{"add", fmt.Sprintf("/webhooks/%d/clientConfig/caBundle", i), merged})
		}
	}
	if len(operations) == 1 {
		return nil, nil
	}
	return json.Marshal(operations)
}
