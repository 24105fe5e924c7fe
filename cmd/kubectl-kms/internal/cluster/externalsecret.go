package cluster

import (
	"context"
	"encoding/json"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
)

// Names of the chart of kms-sync.
const (
	SyncDeployment = "kms-sync"
	SyncLease      = "ack-secret-manager-lock"
)

const (
	externalSecrets = "externalsecrets"
	pageSize        = "500"
)

// ExternalSecrets returns those of kms-sync in a namespace, or in all; none if the cluster does not have the kind.
func (c Client) ExternalSecrets(ctx context.Context, namespace string) ([]v1alpha1.ExternalSecret, error) {
	var all []v1alpha1.ExternalSecret
	for next := ""; ; {
		var page v1alpha1.ExternalSecretList
		err := c.get(ctx, resourcePath(namespace, externalSecrets), "application/json", &page, "limit", pageSize, "continue", next)
		switch {
		case apierrors.IsResourceExpired(err) && next != "":
			all, next = nil, ""
			continue
		case apierrors.IsNotFound(err), apierrors.IsForbidden(err) && !c.syncs(): // rights are looked at before kinds are
			return nil, nil
		case err != nil:
			return nil, err
		}
		all = append(all, page.Items...)
		if next = page.Continue; next == "" {
			return all, nil
		}
	}
}

// syncs reports whether the cluster has ExternalSecrets of kms-sync, as far as it says.
func (c Client) syncs() bool {
	list, err := c.Kube.Discovery().ServerResourcesForGroupVersion(v1alpha1.GroupVersion.String())
	return err != nil && !apierrors.IsNotFound(err) ||
		err == nil && slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == externalSecrets })
}

// ExternalSecret returns one.
func (c Client) ExternalSecret(ctx context.Context, namespace, name string) (*v1alpha1.ExternalSecret, error) {
	var es v1alpha1.ExternalSecret
	return &es, c.get(ctx, resourcePath(namespace, externalSecrets)+"/"+name, "application/json", &es)
}

// Store returns a store; a ClusterSecretStore if it has no namespace.
func (c Client) Store(ctx context.Context, namespace, name string) (*v1alpha1.SecretStore, error) {
	kind := "secretstores"
	if namespace == "" {
		kind = "clustersecretstores"
	}
	var store v1alpha1.SecretStore // of a ClusterSecretStore all but its conditions
	return &store, c.get(ctx, resourcePath(namespace, kind)+"/"+name, "application/json", &store)
}

// SecretMetadata returns the metadata of a Secret. The API server sends nothing else of it.
func (c Client) SecretMetadata(ctx context.Context, namespace, name string) (*metav1.PartialObjectMetadata, error) {
	var secret metav1.PartialObjectMetadata
	return &secret, c.get(ctx, "/api/v1/namespaces/"+namespace+"/secrets/"+name,
		"application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", &secret)
}

func resourcePath(namespace, kind string) string {
	path := "/apis/" + v1alpha1.GroupVersion.String()
	if namespace != "" {
		path += "/namespaces/" + namespace
	}
	return path + "/" + kind
}

// get decodes what is at a path. The parameters are names and values.
func (c Client) get(ctx context.Context, path, accept string, into any, parameters ...string) error {
	request := c.Kube.Discovery().RESTClient().Get().AbsPath(path).SetHeader("Accept", accept)
	for pair := range slices.Chunk(parameters, 2) {
		if pair[1] != "" {
			request.Param(pair[0], pair[1])
		}
	}
	result := request.Do(ctx)
	if err := result.Error(); err != nil { // which says what the API server says, as that of Raw does not
		return err
	}
	text, err := result.Raw()
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}
