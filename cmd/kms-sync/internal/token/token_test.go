package token

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// server is the part of the API server that gives tokens.
type server struct {
	corev1.ServiceAccountInterface
	life time.Duration
	err  error

	mu    sync.Mutex
	asked []*authenticationv1.TokenRequest
	of    []string
}

func (s *server) ServiceAccounts(namespace string) corev1.ServiceAccountInterface {
	return &account{server: s, namespace: namespace}
}

type account struct {
	*server
	namespace string
}

func (a *account) CreateToken(
	_ context.Context, name string, r *authenticationv1.TokenRequest, _ metav1.CreateOptions,
) (*authenticationv1.TokenRequest, error) {
	a.mu.Lock()
	a.asked, a.of = append(a.asked, r), append(a.of, a.namespace+"/"+name)
	a.mu.Unlock()
	time.Sleep(100 * time.Millisecond)
	if a.err != nil {
		return nil, a.err
	}
	given := r.DeepCopy()
	given.Status.Token, given.Status.ExpirationTimestamp = "token of "+a.namespace+"/"+name, metav1.NewTime(time.Now().Add(a.life))
	return given, nil
}

func TestTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{life: time.Hour}
		tokens := New(s)
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if got, err := tokens.Token(t.Context(), "shop", "web"); err != nil || got != "token of shop/web" {
					t.Errorf("got %s, %v", got, err)
				}
			})
		}
		all.Wait()
		if len(s.asked) != 1 {
			t.Errorf("%d requests, want one for all", len(s.asked))
		}
		if spec := s.asked[0].Spec; !slices.Equal(spec.Audiences, []string{"sts.aliyuncs.com"}) || *spec.ExpirationSeconds != 3600 ||
			spec.BoundObjectRef != nil {
			t.Errorf("asked for %+v", spec)
		}
		if got, err := tokens.Token(t.Context(), "other", "web"); err != nil || got != "token of other/web" {
			t.Errorf("got %s, %v", got, err)
		}
		for _, c := range []struct {
			after    time.Duration
			requests int
		}{{47 * time.Minute, 2}, {2 * time.Minute, 3}, {10 * time.Minute, 3}} {
			time.Sleep(c.after)
			if _, err := tokens.Token(t.Context(), "shop", "web"); err != nil || len(s.asked) != c.requests {
				t.Errorf("after %s more: %d requests, %v", c.after, len(s.asked), err)
			}
		}
	})
}

// TestShorterTokens: an API server may give tokens for less than was asked.
func TestShorterTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{life: 10 * time.Minute}
		tokens := New(s)
		for i := range 3 {
			if _, err := tokens.Token(t.Context(), "shop", "web"); err != nil || len(s.asked) != i+1 {
				t.Errorf("%d requests, %v", len(s.asked), err)
			}
			time.Sleep(9 * time.Minute)
		}
	})
}

func TestErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		resource := schema.GroupResource{Resource: "serviceaccounts"}
		for says, err := range map[string]error{
			"request a token for ServiceAccount shop/web: it does not exist; create it": apierrors.NewNotFound(resource, "web"),
			"the administrator must give it that right":                                 apierrors.NewForbidden(resource, "web", errors.New("no")),
			"the network": errors.New("the network"),
		} {
			s := &server{err: err}
			_, err := New(s).Token(t.Context(), "shop", "web")
			var refusal *Error
			if !errors.As(err, &refusal) || refusal.Namespace != "shop" || !strings.Contains(err.Error(), says) {
				t.Errorf("got %v, want %s", err, says)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := New(&server{life: time.Hour}).Token(ctx, "shop", "web"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Second) // the request under way ends
	})
}
