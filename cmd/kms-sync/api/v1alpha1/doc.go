// Package v1alpha1 has the custom resources that kms-sync reads: those of ack-secret-manager, under its names, so that the manifests
// of its users work as they are.
//
// The fields are the union of those of ack-secret-manager 0.5.8 and 0.6.7, as its guides document them, and those that users of
// External Secrets Operator expect: creationPolicy, deletionPolicy, refreshPolicy, immutable. Fields that kms-sync does not carry out
// yet are in the schema, because the API server prunes what is not, and nothing would be left to refuse.
//
// +kubebuilder:object:generate=true
// +groupName=alibabacloud.com
package v1alpha1

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// GroupVersion is that of all kinds here.
var GroupVersion = schema.GroupVersion{Group: "alibabacloud.com", Version: "v1alpha1"}

// AddToScheme makes the kinds known to a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &ExternalSecret{}, &ExternalSecretList{}, &SecretStore{}, &SecretStoreList{}, &ClusterSecretStore{},
		&ClusterSecretStoreList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}

// Finalizer is what ack-secret-manager puts on its objects, and kms-sync too, so that either can take over from the other.
const Finalizer = "finalizer.ack.secrets-manager.alibabacloud.com"

// Annotations.
const (
	// AnnotationServiceAccount names the ServiceAccount of its namespace whose role reads the entries that have no secretStoreRef.
	AnnotationServiceAccount = "kms.alibabacloud.com/service-account"
	// AnnotationAdopt, "true", on a Secret, has an ExternalSecret that names it take it over. It is not on the ExternalSecret, because the
	// right to write ExternalSecrets is not the right to overwrite Secrets.
	AnnotationAdopt = "kms.alibabacloud.com/adopt"
	// AnnotationRefresh has the object be synchronized at once when its value changes.
	AnnotationRefresh = "kms.alibabacloud.com/refresh"
	// AnnotationOwner is the annotation of a Secret with the namespace and name of the ExternalSecret whose Secret it is. A copy of the
	// Secret in another namespace is not.
	AnnotationOwner = "kms.alibabacloud.com/owner"
	// AnnotationKeysPrefix begins the annotations of a Secret that list the keys of one ExternalSecret: its namespace and name, a colon, the
	// keys. Several may add keys to one Secret.
	AnnotationKeysPrefix = "keys.kms.alibabacloud.com/"
)

// Types of conditions.
const (
	// ConditionReady says whether an object is as its spec asks.
	ConditionReady = "Ready"
	// ConditionStale says whether the last good refresh is older than two intervals.
	ConditionStale = "Stale"
	// ConditionBorrowedIdentity says whether secrets are read as the controller itself, not as the namespace.
	ConditionBorrowedIdentity = "BorrowedIdentity"
)
