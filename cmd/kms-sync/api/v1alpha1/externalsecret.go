package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ExternalSecret says which secrets of KMS become which Secret of its namespace.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:resource:path=externalsecrets
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Secret",type=string,JSONPath=`.status.secretName`
// +kubebuilder:printcolumn:name="Synced",type=date,JSONPath=`.status.refreshTime`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ExternalSecret struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ExternalSecretSpec   `json:"spec,omitempty"`
	Status ExternalSecretStatus `json:"status,omitempty"`
}

// ExternalSecretList is a list of them.
//
// +kubebuilder:object:root=true
type ExternalSecretList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []ExternalSecret `json:"items"`
}

// ExternalSecretSpec says what to read and what to make of it.
type ExternalSecretSpec struct {
	// Provider is the service that has the secrets: kms, the default. oos is not supported yet.
	// +optional
	Provider string `json:"provider,omitempty"`
	// Data are secrets that become one key each, or several by jmesPath. Later entries replace equal keys of earlier ones.
	// +optional
	// +kubebuilder:validation:MaxItems=1000
	Data []DataSource `json:"data,omitempty"`
	// DataProcess are secrets whose top-level keys become keys.
	// +optional
	// +kubebuilder:validation:MaxItems=1000
	DataProcess []DataProcess `json:"dataProcess,omitempty"`
	// Type is that of the Secret, Opaque by default; target.template.type precedes it.
	// +optional
	Type corev1.SecretType `json:"type,omitempty"`
	// RotationInterval is the time between two refreshes, a Go duration of at least 10s; the default is the controller's
	// polling interval.
	// +optional
	RotationInterval string `json:"rotationInterval,omitempty"`
	// RefreshPolicy is Periodic, the default; OnChange: only when the spec changes; CreatedOnce: only until the Secret exists.
	// +optional
	// +kubebuilder:validation:Enum=Periodic;OnChange;CreatedOnce
	RefreshPolicy Policy `json:"refreshPolicy,omitempty"`
	// +optional
	Target Target `json:"target,omitzero"`
}

// Policy is a value of refreshPolicy, target.creationPolicy or target.deletionPolicy.
type Policy string

// The policies.
const (
	RefreshPeriodic    Policy = "Periodic"
	RefreshOnChange    Policy = "OnChange"
	RefreshCreatedOnce Policy = "CreatedOnce"

	CreateOwner  Policy = "Owner"
	CreateOrphan Policy = "Orphan"
	CreateMerge  Policy = "Merge"

	DeletionRetain Policy = "Retain"
	DeletionDelete Policy = "Delete"
	DeletionMerge  Policy = "Merge"
)

// DataSource is one secret of KMS.
type DataSource struct {
	// Key is the secret's name, or its ARN.
	Key string `json:"key"`
	// Name is the key in the Secret; the default is Key.
	// +optional
	Name string `json:"name,omitempty"`
	// VersionID and VersionStage choose the version; the default is the stage ACSCurrent.
	// +optional
	VersionID string `json:"versionId,omitempty"`
	// +optional
	VersionStage string `json:"versionStage,omitempty"`
	// KMSEndpoint is the host of the gateway for this entry: kms[-vpc].<region>.aliyuncs.com or
	// <instance>.cryptoservice.kms.aliyuncs.com.
	// +optional
	KMSEndpoint string `json:"kmsEndpoint,omitempty"`
	// SecretStoreRef is the store whose identity reads the secret. Without it, the ServiceAccount that the object's annotation
	// kms.alibabacloud.com/service-account names reads it, or the controller, for namespaces that its administrator lists.
	// +optional
	SecretStoreRef *SecretStoreRef `json:"secretStoreRef,omitempty"`
	// JMESPath picks fields of a JSON or YAML value into keys of their own.
	// +optional
	// +kubebuilder:validation:MaxItems=10000
	JMESPath []JMESPathObject `json:"jmesPath,omitempty"`
}

// SecretStoreRef names a store.
type SecretStoreRef struct {
	Name string `json:"name"`
	// Namespace is the store's; the default, and the only one that is allowed without the administrator's switch, is the
	// ExternalSecret's.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// Kind is SecretStore, the default, or ClusterSecretStore.
	// +optional
	// +kubebuilder:validation:Enum=SecretStore;ClusterSecretStore
	Kind string `json:"kind,omitempty"`
}

// JMESPathObject picks one field.
type JMESPathObject struct {
	// Path is a JMESPath expression.
	Path string `json:"path"`
	// ObjectAlias is the key in the Secret.
	ObjectAlias string `json:"objectAlias"`
}

// DataProcess is a secret whose top-level keys become keys.
type DataProcess struct {
	// +optional
	Extract *DataSource `json:"extract,omitempty"`
	// ReplaceRule rewrites the names of keys, in order.
	// +optional
	// +kubebuilder:validation:MaxItems=100
	ReplaceRule []ReplaceRule `json:"replaceRule,omitempty"`
}

// ReplaceRule replaces what a regular expression matches.
type ReplaceRule struct {
	// Source is a Go regular expression.
	Source string `json:"source"`
	// Target replaces each match; $1 stands for the first group.
	Target string `json:"target"`
}

// Target is the Secret.
type Target struct {
	// Name is the Secret's; the default is the ExternalSecret's.
	// +optional
	Name string `json:"name,omitempty"`
	// CreationPolicy is Owner, the default: the Secret is the ExternalSecret's, and is deleted with it; Orphan: it stays; Merge: the
	// keys are added to a Secret that exists, and removed again.
	// +optional
	// +kubebuilder:validation:Enum=Owner;Orphan;Merge
	CreationPolicy Policy `json:"creationPolicy,omitempty"`
	// DeletionPolicy says what becomes of the Secret when KMS no longer has the secrets: Retain, the default, leaves it; Delete
	// deletes it, Merge removes the keys. An outage never does.
	// +optional
	// +kubebuilder:validation:Enum=Retain;Delete;Merge
	DeletionPolicy Policy `json:"deletionPolicy,omitempty"`
	// Immutable makes the Secret immutable: it is written once.
	// +optional
	Immutable bool `json:"immutable,omitempty"`
	// +optional
	Template *Template `json:"template,omitempty"`
}

// Template makes the Secret's data of the keys that were read, which it sees as strings: {{ .key }}.
type Template struct {
	// Data are templates, by key of the Secret.
	// +optional
	// +kubebuilder:validation:MaxProperties=1000
	Data map[string]string `json:"data,omitempty"`
	// TemplateFrom is not supported yet; an object with it is refused.
	// +optional
	TemplateFrom []TemplateFrom `json:"templateFrom,omitempty"`
	// +optional
	Metadata TemplateMetadata `json:"metadata,omitzero"`
	// +optional
	Type corev1.SecretType `json:"type,omitempty"`
	// MergePolicy is Replace, the default: with data, only the template's keys are in the Secret; Merge: those that were read too.
	// +optional
	// +kubebuilder:validation:Enum=Replace;Merge
	MergePolicy string `json:"mergePolicy,omitempty"`
}

// TemplateMetadata are templates of the Secret's labels and annotations.
type TemplateMetadata struct {
	// +optional
	// +kubebuilder:validation:MaxProperties=1000
	Labels map[string]string `json:"labels,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxProperties=1000
	Annotations map[string]string `json:"annotations,omitempty"`
}

// TemplateFrom is where templates come from.
type TemplateFrom struct {
	// +optional
	ConfigMap *TemplateRef `json:"configMap,omitempty"`
	// +optional
	Secret *TemplateRef `json:"secret,omitempty"`
	// +optional
	Literal *string `json:"literal,omitempty"`
	// +optional
	// +kubebuilder:validation:Enum=Data;Annotations;Labels
	Target string `json:"target,omitempty"`
}

// TemplateRef names an object of the namespace, and keys of it.
type TemplateRef struct {
	Name string `json:"name"`
	// +optional
	Items []TemplateItem `json:"items,omitempty"`
}

// TemplateItem is one key.
type TemplateItem struct {
	Key string `json:"key"`
	// +optional
	// +kubebuilder:validation:Enum=Values;KeysAndValues
	TemplateAs string `json:"templateAs,omitempty"`
}

// ExternalSecretStatus is what the controller says of an ExternalSecret.
type ExternalSecretStatus struct {
	// Conditions has Ready, and Stale while the last good refresh is older than two intervals.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// ObservedGeneration is that of the spec that the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// RefreshTime is when everything was last read with success.
	// +optional
	RefreshTime *metav1.Time `json:"refreshTime,omitempty"`
	// NextRefreshTime is when it is read again.
	// +optional
	NextRefreshTime *metav1.Time `json:"nextRefreshTime,omitempty"`
	// SecretName is the Secret that was written last.
	// +optional
	SecretName string `json:"secretName,omitempty"`
	// SecretResourceVersion is that Secret's after it was written.
	// +optional
	SecretResourceVersion string `json:"secretResourceVersion,omitempty"`
	// ObservedRefresh is the value of the annotation kms.alibabacloud.com/refresh that the last attempt answered.
	// +optional
	ObservedRefresh string `json:"observedRefresh,omitempty"`
	// StoreGenerations are those of the stores that the last attempt used, by kind and name, as in SecretStore shop/prod.
	// +optional
	StoreGenerations map[string]int64 `json:"storeGenerations,omitempty"`
	// Secrets are the secrets of KMS, and the versions that the Secret has.
	// +optional
	Secrets []SyncedSecret `json:"secrets,omitempty"`
	// DataSyncResults is what ack-secret-manager says, kept for dashboards that read it.
	// +optional
	DataSyncResults []DataSyncResult `json:"dataSyncResults,omitempty"`
}

// SyncedSecret is one secret of KMS.
type SyncedSecret struct {
	Key string `json:"key"`
	// VersionID is the version that the Secret has.
	// +optional
	VersionID string `json:"versionId,omitempty"`
	// NextRotation is when KMS will rotate it, as KMS says.
	// +optional
	NextRotation *metav1.Time `json:"nextRotation,omitempty"`
	// Message says why the last attempt failed and what to change.
	// +optional
	Message string `json:"message,omitempty"`
}

// DataSyncResult is the last outcome of one secret, in ack-secret-manager's form.
type DataSyncResult struct {
	// +optional
	ExternalSecretKey string `json:"ExternalSecretKey,omitempty"`
	// Status is Succeeded, Failed or Warning.
	// +optional
	Status string `json:"status,omitempty"`
	// +optional
	Reason string `json:"reason,omitempty"`
	// +optional
	SynchronizationTime *metav1.Time `json:"synchronizationTime,omitempty"`
}
