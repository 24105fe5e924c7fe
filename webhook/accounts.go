package webhook

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rrsa"
)

// maxName is the length of a ServiceAccount's name at the most.
const maxName = 253

// role is the ARN that a pod assumes, "" for an identity that has its role from elsewhere. The error is an outageError or for the
// pod's author.
func (m metadata) role(ctx context.Context, source string, spec config.Spec, policy config.Injector, account rrsa.ServiceAccount) (string, error) {
	if spec.Identity.Kind != config.RRSA {
		return "", nil
	}
	if rrsa.FromPod(spec) {
		return rrsa.Role(spec, policy, account)
	}
	key := types.NamespacedName{Namespace: account.Namespace, Name: account.Name}
	if len(key.Name) > maxName {
		return "", fmt.Errorf("ServiceAccount %s…, with which the pod runs, does not exist: a name has at most %d characters", key.Name[:20], maxName)
	}
	if sa, err := m.fromCache(ctx, serviceAccountKind, key); err == nil {
		account.Annotations = sa.Annotations
		if role, err := rrsa.Role(spec, policy, account); err == nil {
			return role, nil
		}
	}
	sa, err := m.fromServer(ctx, source, serviceAccountKind, key)
	switch {
	case err != nil:
		return "", err
	case sa == nil:
		return "", fmt.Errorf("ServiceAccount %s, with which the pod runs, does not exist", key)
	}
	account.Annotations = sa.Annotations
	return rrsa.Role(spec, policy, account)
}
