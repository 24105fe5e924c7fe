// Package cluster asks a cluster what a decision on a pod needs besides the pod.
package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// Names of the chart's objects.
const (
	Configuration  = "kms-agent-injector" // of the two webhook configurations
	Deployment     = "kms-webhook"
	Certificates   = "kms-webhook-certificates" // the Deployment that writes certificates and caBundle, unless an administrator does
	Service        = "kms-webhook"
	usualNamespace = "kms-agent-injector"
)

// InvalidError is of a configuration that the webhook does not take.
type InvalidError struct {
	ConfigMap string // namespace/name
	Err       error
}

func (e *InvalidError) Error() string { return "ConfigMap " + e.ConfigMap + ": " + e.Err.Error() }
func (e *InvalidError) Unwrap() error { return e.Err }

// A Client calls the API server with the credentials of the plugin's user.
type Client struct {
	Kube             kubernetes.Interface
	WebhookNamespace string // of the release; "": where its webhook configuration says
	SyncNamespace    string // of kms-sync; "": kms-sync
}

// Release returns the namespace of the webhook.
func (c Client) Release(ctx context.Context) string {
	if c.WebhookNamespace != "" {
		return c.WebhookNamespace
	}
	webhooks, err := c.Kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, Configuration, metav1.GetOptions{})
	if err == nil {
		for _, w := range webhooks.Webhooks {
			if w.ClientConfig.Service != nil {
				return w.ClientConfig.Service.Namespace
			}
		}
	}
	return usualNamespace
}

// Selects reports whether the webhook is called in a namespace with these labels, provided that it has the label of injection.
func Selects(w *admissionv1.MutatingWebhook, namespace string, of map[string]string) bool {
	selector, err := metav1.LabelSelectorAsSelector(w.NamespaceSelector)
	return err == nil && selector.Matches(labels.Merge(of, labels.Set{
		podconfig.NamespaceLabel: podconfig.NamespaceLabelValue, corev1.LabelMetadataName: namespace,
	}))
}

// Scope returns Selects of the cluster's webhook.
func (c Client) Scope(ctx context.Context) (selects func(namespace string, of map[string]string) bool, err error) {
	all, err := c.Kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, Configuration, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return func(namespace string, of map[string]string) bool {
		return len(all.Webhooks) > 0 && Selects(&all.Webhooks[0], namespace, of)
	}, nil
}

// Version returns the version of the webhook, from the label of its Deployment.
func (c Client) Version(ctx context.Context) (string, error) {
	deployment, err := c.deployment(ctx, c.Release(ctx))
	if err != nil {
		return "", fmt.Errorf("read the webhook's version: %w", err)
	}
	return cmp.Or(deployment.Labels["app.kubernetes.io/version"], "of no known version"), nil
}

// deployment returns the webhook's Deployment.
func (c Client) deployment(ctx context.Context, namespace string) (*appsv1.Deployment, error) {
	deployment, err := c.Kube.AppsV1().Deployments(namespace).Get(ctx, Deployment, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("there is no webhook in namespace %s; if it is in another, say --webhook-namespace", namespace)
	}
	return deployment, err
}

// Policy returns the webhook's configuration, and the version of the API server.
func (c Client) Policy(ctx context.Context) (policy clusterconfig.Config, version string, err error) {
	fail := func(err error) (clusterconfig.Config, string, error) {
		return clusterconfig.Config{}, "", fmt.Errorf("read the webhook's configuration: %w", err)
	}
	namespace := c.Release(ctx)
	deployment, err := c.deployment(ctx, namespace)
	if err != nil {
		return fail(err)
	}
	name := configMap(deployment)
	if name == "" {
		return fail(fmt.Errorf("the Deployment %s/%s has no ConfigMap in its volume config", namespace, Deployment))
	}
	files, err := c.Kube.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fail(err)
	}
	policy, err = clusterconfig.Load([]byte(files.Data["config.yaml"]), func(file string) ([]byte, error) {
		text, found := files.Data[file]
		if !found {
			return nil, fs.ErrNotExist
		}
		return []byte(text), nil
	})
	if err != nil {
		return fail(&InvalidError{namespace + "/" + name, err})
	}
	server, err := c.Kube.Discovery().ServerVersion()
	if err != nil {
		return fail(err)
	}
	return policy, server.GitVersion, nil
}

// configMap is found by the volume: kustomize gives ConfigMaps names that change with their content.
func configMap(d *appsv1.Deployment) string {
	for _, v := range d.Spec.Template.Spec.Volumes {
		if v.Name == "config" && v.ConfigMap != nil {
			return v.ConfigMap.Name
		}
	}
	return ""
}

// ServiceAccountAnnotations implements injector.Cluster.
func (c Client) ServiceAccountAnnotations(ctx context.Context, namespace, name string, _ bool) (map[string]string, error) {
	account, err := c.Kube.CoreV1().ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, absent(err, "ServiceAccount "+namespace+"/"+name)
	}
	return account.Annotations, nil
}

// NamespaceLabels implements injector.Cluster.
func (c Client) NamespaceLabels(ctx context.Context, name string) (map[string]string, error) {
	namespace, err := c.Kube.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, absent(err, "namespace "+name)
	}
	return namespace.Labels, nil
}

func absent(err error, what string) error {
	if apierrors.IsNotFound(err) {
		return config.ErrNotFound
	}
	return fmt.Errorf("read %s: %w", what, err)
}

// Issuer returns the issuer of the cluster's ServiceAccount tokens.
func (c Client) Issuer(ctx context.Context) (string, error) {
	text, err := c.Kube.Discovery().RESTClient().Get().AbsPath("/.well-known/openid-configuration").DoRaw(ctx)
	if err != nil {
		return "", err
	}
	var discovered struct {
		Issuer string `json:"issuer"`
	}
	err = json.Unmarshal(text, &discovered)
	return discovered.Issuer, err
}
