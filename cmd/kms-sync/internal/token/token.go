// Package token requests tokens of ServiceAccounts for STS, and for nothing else.
package token

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/agent/cache"
)

// Audience is the only one that tokens are requested for: to the API server they are worth nothing.
const Audience = "sts.aliyuncs.com"

const (
	life    = time.Hour // that is asked for
	most    = 1000      // tokens are kept
	timeout = 10 * time.Second
)

// Tokens are those of ServiceAccounts. They are kept until four fifths of their life are over. It is safe for concurrent use, and
// requests one token at a time for each ServiceAccount.
type Tokens struct {
	kept *cache.Cache[types.NamespacedName, token]
}

type token struct {
	text  string
	renew time.Time
}

// Error says that no token was given.
type Error struct {
	Namespace, Name string
	Err             error
}

func (e *Error) Error() string {
	s := fmt.Sprintf("request a token for ServiceAccount %s/%s: ", e.Namespace, e.Name)
	switch {
	case apierrors.IsNotFound(e.Err):
		return s + "it does not exist; create it"
	case apierrors.IsForbidden(e.Err):
		return s + "the API server does not let kms-sync create serviceaccounts/token there; the administrator must give it that right: " +
			e.Err.Error()
	}
	return s + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// New returns Tokens that are requested from an API server.
func New(accounts corev1.ServiceAccountsGetter) *Tokens {
	never := func(error) bool { return false }
	return &Tokens{cache.New(cache.Config[types.NamespacedName, token]{
		Fetch: func(ctx context.Context, account types.NamespacedName) (token, error) {
			return request(ctx, accounts, account)
		},
		TTL: life * 4 / 5, Timeout: timeout, Size: most, Weigh: func(token) int { return 0 },
		Transient: never, Lasting: apierrors.IsNotFound, Stale: func(types.NamespacedName, error) {},
		Version: func(t token) string { return t.text },
	})}
}

// Token returns a token of a ServiceAccount. Its error is an *Error, or ctx's.
func (t *Tokens) Token(ctx context.Context, namespace, name string) (string, error) {
	account := types.NamespacedName{Namespace: namespace, Name: name}
	got, err := t.kept.Get(ctx, account)
	if err == nil && !time.Now().Before(got.renew) { // the API server gave one for less than was asked
		got, err = t.kept.Refresh(ctx, account)
	}
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil:
		return "", &Error{namespace, name, err}
	}
	return got.text, nil
}

func request(ctx context.Context, accounts corev1.ServiceAccountsGetter, account types.NamespacedName) (token, error) {
	seconds := int64(life / time.Second)
	asked := time.Now()
	given, err := accounts.ServiceAccounts(account.Namespace).CreateToken(ctx, account.Name, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{Audiences: []string{Audience}, ExpirationSeconds: &seconds},
	}, metav1.CreateOptions{})
	if err != nil {
		return token{}, err
	}
	until := given.Status.ExpirationTimestamp.Time
	return token{given.Status.Token, asked.Add(until.Sub(asked) * 4 / 5)}, nil
}
