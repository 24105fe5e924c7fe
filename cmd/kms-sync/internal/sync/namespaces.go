package sync

import (
	"context"
	"fmt"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	authorization "k8s.io/client-go/kubernetes/typed/authorization/v1"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
)

// lookAgain is how often a namespace that may not be read is asked about.
const lookAgain = time.Minute

type reviewer = authorization.SelfSubjectAccessReviewInterface

// divide returns the namespaces that the controller may read, and the others, such as one that was deleted, and its Role with it. The
// caches would wait for it without end, and hold up all other namespaces.
func divide(ctx context.Context, reviews reviewer, namespaces []string) (in, out []string, err error) {
	for _, namespace := range namespaces {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: namespace, Verb: "list", Group: v1alpha1.GroupVersion.Group, Resource: "externalsecrets",
			},
		}}
		answer, err := reviews.Create(ctx, review, metav1.CreateOptions{})
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("ask whether ExternalSecrets of the namespace %s may be listed: %w", namespace, err)
		case answer.Status.Allowed:
			in = append(in, namespace)
		default:
			out = append(out, namespace)
		}
	}
	return in, out, nil
}

// watchReadable leaves out of Watch the namespaces that may not be read. End is called with the reason when one of these may be: a process
// keeps the caches with which it began.
func (o *Options) watchReadable(ctx context.Context, reviews reviewer, end func(error)) error {
	in, out, err := divide(ctx, reviews, o.Watch)
	const cure = "create them, and upgrade the chart's release: the chart has a Role in each"
	switch {
	case err != nil:
		return err
	case len(out) == 0:
		return nil
	case len(in) == 0: // no namespaces would mean all
		return fmt.Errorf("the controller has no rights in any namespace that it is to watch (%s); %s", strings.Join(out, ", "), cure)
	}
	o.Log.Info("The controller has no rights in some namespaces and leaves them out; "+cure, "namespaces", out)
	o.Watch = in
	go wait.UntilWithContext(ctx, func(ctx context.Context) {
		if now, _, err := divide(ctx, reviews, out); err == nil && len(now) > 0 {
			end(fmt.Errorf("start again: the controller has rights in %s now", strings.Join(now, ", ")))
		}
	}, lookAgain)
	return nil
}
