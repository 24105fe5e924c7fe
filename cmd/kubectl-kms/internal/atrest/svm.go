package atrest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

const svmGroup = "storagemigration.k8s.io"

// ownLabel marks the StorageVersionMigrations that Migrate creates, so that a later run finds one that is left over.
const ownLabel = "app.kubernetes.io/managed-by"

// keyAnnotation is the annotation with the key that the API servers had when Migrate created a StorageVersionMigration, as a hash.
const keyAnnotation = "kms.alibabacloud.com/at-rest-key"

const (
	svmPatience = 60     // seconds until the controller must have started
	mostListed  = 20_000 // objects for which progress is counted
)

// svm has the cluster rewrite the objects by a StorageVersionMigration, and follows it. It continues one of an earlier run only if that
// began with the same key: another has rewritten objects with another key. It reports false if the API is not served, or no controller
// handles it.
func (m *migration) svm(ctx context.Context, resource schema.GroupVersionResource, total int, begun state) (bool, error) {
	given := m.servers.all[0]
	groups, err := given.kube.Discovery().ServerGroups()
	if err != nil {
		return false, fmt.Errorf("ask which APIs are served: %w", err)
	}
	kind := schema.GroupVersionResource{Group: svmGroup, Resource: "storageversionmigrations"}
	for _, g := range groups.Groups {
		if g.Name == svmGroup {
			kind.Version = g.PreferredVersion.Version
		}
	}
	if kind.Version == "" {
		return false, nil
	}
	client, err := dynamic.NewForConfig(m.REST)
	if err != nil {
		return false, err
	}
	migrations := client.Resource(kind)
	made, err := own(ctx, migrations, resource)
	if err != nil {
		return false, err
	}
	key := fmt.Sprintf("%x", sha256.Sum256([]byte(begun.Key)))
	if made != nil && (m.Again || begun.Key == "" || made.GetAnnotations()[keyAnnotation] != key) {
		m.say("%s: a new StorageVersionMigration replaces %s, which began before", name(resource), made.GetName())
		if err := remove(ctx, migrations, made.GetName()); err != nil {
			return false, err
		}
		made = nil
	}
	if made == nil {
		made, err = migrations.Create(ctx, describe(kind, resource, key), metav1.CreateOptions{FieldManager: fieldManager})
		if apierrors.IsForbidden(err) && m.Via == Auto {
			m.say("%s: you are not allowed to create storageversionmigrations; continuing with updates", name(resource))
			return false, nil
		}
		if err != nil {
			return false, refusal(err, "create storageversionmigrations")
		}
	} else {
		m.say("%s: StorageVersionMigration %s continues", name(resource), made.GetName())
	}
	return m.follow(ctx, migrations, made.GetName(), resource, total, begun.Version)
}

// own returns an unfinished migration of the resource that an earlier run created.
func own(ctx context.Context, migrations dynamic.ResourceInterface, resource schema.GroupVersionResource) (*unstructured.Unstructured,
	error) {
	list, err := migrations.List(ctx, metav1.ListOptions{LabelSelector: ownLabel + "=" + fieldManager})
	if apierrors.IsForbidden(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list storageversionmigrations: %w", err)
	}
	for i, item := range list.Items {
		group, _, _ := unstructured.NestedString(item.Object, "spec", "resource", "group")
		plural, _, _ := unstructured.NestedString(item.Object, "spec", "resource", "resource")
		if group == resource.Group && plural == resource.Resource && !condition(&item, "Succeeded") && !condition(&item, "Failed") {
			return &list.Items[i], nil
		}
	}
	return nil, nil
}

func describe(kind, resource schema.GroupVersionResource, key string) *unstructured.Unstructured {
	named := map[string]any{"resource": resource.Resource}
	if resource.Group != "" {
		named["group"] = resource.Group
	}
	if kind.Version == "v1alpha1" {
		named["version"] = resource.Version
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": kind.GroupVersion().String(), "kind": "StorageVersionMigration",
		"metadata": map[string]any{"generateName": fieldManager + "-", "labels": map[string]any{ownLabel: fieldManager},
			"annotations": map[string]any{keyAnnotation: key}},
		"spec": map[string]any{"resource": named},
	}}
}

func condition(o *unstructured.Unstructured, kind string) bool {
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && c["type"] == kind && c["status"] == "True" {
			return true
		}
	}
	return false
}

// follow shows a migration's progress until it ends, and then deletes it.
func (m *migration) follow(ctx context.Context, migrations dynamic.ResourceInterface, called string, resource schema.GroupVersionResource,
	total int, since string) (bool, error) {
	bar := m.progress(name(resource), 0, total)
	defer bar.end()
	for looks := 1; ; looks++ {
		now, err := migrations.Get(ctx, called, metav1.GetOptions{})
		if ctx.Err() != nil {
			return false, fmt.Errorf("%w; StorageVersionMigration %s continues in the cluster; run the same command to follow it", errInterrupted,
				called)
		}
		if err != nil {
			return false, fmt.Errorf("look at StorageVersionMigration %s: %w", called, err)
		}
		version, _, _ := unstructured.NestedString(now.Object, "status", "resourceVersion")
		switch conditions, _, _ := unstructured.NestedSlice(now.Object, "status", "conditions"); {
		case condition(now, "Succeeded"):
			return true, remove(ctx, migrations, called)
		case condition(now, "Failed"):
			return false, fmt.Errorf("StorageVersionMigration %s failed: %v; use --via updates", called, conditions)
		case len(conditions) == 0 && version == "" && looks > svmPatience:
			m.say("%s: no controller handles StorageVersionMigration %s; continuing with updates", name(resource), called)
			return false, remove(ctx, migrations, called)
		}
		if total <= mostListed {
			if objects, _, err := m.servers.all[0].list(ctx, resource); err == nil {
				done := 0
				for _, o := range objects {
					if o.after(since) {
						done++
					}
				}
				bar.show(min(done, total))
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(cmp.Or(m.pause, time.Second)):
		}
	}
}

func remove(ctx context.Context, migrations dynamic.ResourceInterface, called string) error {
	if err := migrations.Delete(ctx, called, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete StorageVersionMigration %s: %w", called, err)
	}
	return nil
}
