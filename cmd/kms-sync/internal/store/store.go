// Package store resolves the store that an entry of an ExternalSecret names to the identity that reads the secret, or to a refusal
// that says what to change.
//
// An identity is the one that the store, or without a store the object or the controller's environment, is configured with. None
// ever replaces another that fails. The controller's own identities serve only the namespaces that the administrator lists.
package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
)

// Entry is what an entry of an ExternalSecret says about the identity and the place.
type Entry struct {
	Key      string                  // the secret's name or ARN
	Endpoint string                  // host of the gateway; empty: the administrator's
	Store    v1alpha1.SecretStoreRef // zero: none
}

// Kind says how an identity authenticates.
type Kind string

// The kinds of identities.
const (
	ServiceAccount Kind = "ServiceAccount" // the role of a ServiceAccount, by a token that is requested for it
	AccessKey      Kind = "AccessKey"      // an access key in Secrets, or a role that it assumes
	ClientKey      Kind = "ClientKey"      // a client key of a KMS instance in Secrets
	Controller     Kind = "Controller"     // a role that the controller's own token assumes
	Environment    Kind = "Environment"    // the access key in the controller's environment, or a role that it assumes
	NodeRole       Kind = "NodeRole"       // the role of the node that the controller runs on
)

// Who is an identity. Two that are equal are one principal to Alibaba Cloud, and share sessions and values; two that differ share
// nothing.
type Who struct {
	Kind Kind
	// Namespace and Name are those of the ServiceAccount.
	Namespace, Name string
	// Secrets are those that have the access key or the client key.
	Secrets string
	// Role is assumed first, Remote with Role's session, or with the access key.
	Role, Remote string
	Provider     string // of OIDC
	// Session and RemoteSession are the names that the store gives sessions; empty: see Asker.
	Session, RemoteSession string
	Duration               time.Duration // of the first session; 0: an hour
	Instance               string        // of a client key: its host, and a hash of its certificate authority
}

// String describes the identity in words.
func (w Who) String() string {
	var s string
	switch w.Kind {
	case ServiceAccount:
		s = "ServiceAccount " + w.Namespace + "/" + w.Name
	case AccessKey:
		s = "the access key in " + w.Secrets
	case ClientKey:
		s = "the client key in " + w.Secrets
	case Controller:
		s = "kms-sync's own ServiceAccount"
	case Environment:
		s = "kms-sync's own access key"
	case NodeRole:
		s = "the role of kms-sync's node"
	}
	if w.Role != "" {
		s = w.Role + " (" + s + ")"
	}
	if w.Remote != "" {
		s = w.Remote + " (through " + s + ")"
	}
	return s
}

// Borrowed reports whether the identity is the controller's own.
func (w Who) Borrowed() bool {
	return w.Kind == Controller || w.Kind == Environment || w.Kind == NodeRole
}

// An Asker says who reads secrets, where, and how to get the credentials.
type Asker struct {
	Who       Who
	Endpoint  string
	Namespace string // of the ExternalSecret, on whose account the calls are
	// Store names the store, as in SecretStore shop/prod, and Generation is its; empty without one.
	Store      string
	Generation int64
	// Open returns the credentials of Who. Exchanges with STS go through paced. It is nil for a client key.
	//
	// A session has the name that the store gives it, or else says which namespace and ServiceAccount it is of, and which object
	// caused it: the objects of one ServiceAccount share it.
	Open func(paced func(identity.Provider) identity.Provider) (*identity.Source, error)
	// Instance returns the client of a client key's instance. It is nil for all others.
	Instance func() (Instance, error)
}

// An Instance reads secrets as a client key.
type Instance interface {
	GetSecretValue(ctx context.Context, ref kms.Ref) (kms.Secret, error)
	CloseIdleConnections()
}

// A Refusal says why an entry cannot be read, and what to change.
type Refusal struct{ Reason, Message string }

func (r *Refusal) Error() string { return r.Message }

// The reasons of refusals.
const (
	NotReady  = "StoreNotReady" // the store, or what it refers to, is not as it must be
	Forbidden = "Forbidden"     // the administrator, or the store, does not allow it
	Invalid   = "InvalidSpec"   // the ExternalSecret itself is wrong
)

func refuse(reason, format string, args ...any) error {
	return &Refusal{reason, fmt.Sprintf(format, args...)}
}

// at puts the place before what a Refusal says.
func at(where string, err error) error {
	if r, ok := err.(*Refusal); ok && where != "" && !strings.HasPrefix(r.Message, where) { //nolint:errorlint // it is this package's own
		return &Refusal{r.Reason, where + ": " + r.Message}
	}
	return err
}
