package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SecretStore says as which identity the ExternalSecrets of its namespace read KMS.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:resource:path=secretstores
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type SecretStore struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   SecretStoreSpec   `json:"spec,omitempty"`
	Status SecretStoreStatus `json:"status,omitempty"`
}

// SecretStoreList is a list of them.
//
// +kubebuilder:object:root=true
type SecretStoreList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []SecretStore `json:"items"`
}

// ClusterSecretStore is a SecretStore for several namespaces.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:resource:path=clustersecretstores,scope=Cluster,shortName=css,categories=external-secrets
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ClusterSecretStore struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ClusterSecretStoreSpec `json:"spec,omitempty"`
	Status SecretStoreStatus      `json:"status,omitempty"`
}

// ClusterSecretStoreList is a list of them.
//
// +kubebuilder:object:root=true
type ClusterSecretStoreList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []ClusterSecretStore `json:"items"`
}

// SecretStoreSpec has exactly one service.
//
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:MaxProperties=1
type SecretStoreSpec struct {
	// +optional
	KMS *KMS `json:"KMS,omitempty"`
	// OOS is not supported yet; a store with it is refused.
	// +optional
	OOS *OOS `json:"OOS,omitempty"`
}

// ClusterSecretStoreSpec is a store's, and says which namespaces may use it.
type ClusterSecretStoreSpec struct {
	// +optional
	KMS *KMS `json:"KMS,omitempty"`
	// OOS is not supported yet; a store with it is refused.
	// +optional
	OOS *OOS `json:"OOS,omitempty"`
	// Conditions are the namespaces that may use the store, one of them is enough; without any, all may.
	// +optional
	// +kubebuilder:validation:MinItems=1
	Conditions []NamespaceCondition `json:"conditions,omitempty"`
}

// NamespaceCondition chooses namespaces.
type NamespaceCondition struct {
	// +optional
	Namespaces []string `json:"namespaces,omitempty"`
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	// NamespaceRegexes are Go regular expressions for whole names.
	// +optional
	NamespaceRegexes []string `json:"namespaceRegexes,omitempty"`
}

// KMS is how KMS is asked: by a role or an access key, or by a KMS instance's client key.
//
// +kubebuilder:validation:MaxProperties=1
type KMS struct {
	// +optional
	KMSAuth *Auth `json:"KMSAuth,omitempty"`
	// +optional
	DedicatedKMSAuth *ClientKeyAuth `json:"dedicatedKMSAuth,omitempty"`
}

// OOS is how OOS is asked.
type OOS struct {
	// +optional
	OOSAuth *Auth `json:"OOSAuth,omitempty"`
}

// Auth says who asks.
type Auth struct {
	// AccessKey and AccessKeySecret are an access key in Secrets.
	// +optional
	AccessKey *SecretRef `json:"accessKey,omitempty"`
	// +optional
	AccessKeySecret *SecretRef `json:"accessKeySecret,omitempty"`
	// RAMRoleARN is the role to assume, by the access key or by the controller's own token.
	// +optional
	RAMRoleARN string `json:"ramRoleARN,omitempty"`
	// +optional
	RAMRoleSessionName string `json:"ramRoleSessionName,omitempty"`
	// +optional
	OIDCProviderARN string `json:"oidcProviderARN,omitempty"`
	// OIDCTokenFilePath may only be the controller's own token.
	// +optional
	OIDCTokenFilePath string `json:"oidcTokenFilePath,omitempty"`
	// RoleSessionExpiration is a session's length in seconds, 900 to 43200; the default is 3600.
	// +optional
	RoleSessionExpiration string `json:"roleSessionExpiration,omitempty"`
	// RemoteRAMRoleARN is a second role, usually of another account, that the first identity assumes.
	// +optional
	RemoteRAMRoleARN string `json:"remoteRamRoleARN,omitempty"`
	// +optional
	RemoteRAMRoleSessionName string `json:"remoteRamRoleSessionName,omitempty"`
	// ServiceAccountRef is the ServiceAccount whose role asks.
	// +optional
	ServiceAccountRef *ServiceAccountRef `json:"serviceAccountRef,omitempty"`
}

// ServiceAccountRef names a ServiceAccount.
type ServiceAccountRef struct {
	Name string `json:"name"`
	// Namespace is the ServiceAccount's; the default is that of the ExternalSecret. Another one needs the administrator's
	// permission.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// Audiences may only be sts.aliyuncs.com.
	// +optional
	Audiences []string `json:"audiences,omitempty"`
}

// SecretRef is a key of a Secret.
type SecretRef struct {
	Name string `json:"name"`
	Key  string `json:"key"`
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// ClientKeyAuth is an application access point's client key of a KMS instance.
type ClientKeyAuth struct {
	// Protocol is https, the default and the only one.
	// +optional
	Protocol string `json:"protocol,omitempty"`
	// Endpoint is the instance's ID, or its whole host.
	Endpoint string `json:"endpoint"`
	// ClientKeyContent and Password are in Secrets.
	ClientKeyContent SecretRef `json:"clientKeyContent"`
	Password         SecretRef `json:"password"`
	// CA is the instance's certificate authority, PEM in base64.
	// +optional
	CA string `json:"ca,omitempty"`
	// IgnoreSSL is refused when it is true: an unverified gateway may be an attacker's.
	// +optional
	IgnoreSSL bool `json:"ignoreSSL,omitempty"`
}

// SecretStoreStatus is what the controller says of a store.
type SecretStoreStatus struct {
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
