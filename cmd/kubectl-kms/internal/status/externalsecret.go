package status

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/check"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
)

const kind = "ExternalSecret/"

// An ExternalSecret is what kms-sync says of one.
type ExternalSecret struct {
	Namespace string          `json:"namespace"`
	Name      string          `json:"name"`   // ExternalSecret/<name>
	Secret    string          `json:"secret"` // that it makes
	State     string          `json:"state"`
	Ready     string          `json:"ready"`            // the condition's status
	Reason    string          `json:"reason,omitempty"` // of the condition
	Problem   string          `json:"problem,omitempty"`
	Secrets   []status.Secret `json:"secrets"`          // of KMS, in the versions that the Secret has
	Fetched   time.Time       `json:"fetched,omitzero"` // when all of them were last read
	Next      time.Time       `json:"next,omitzero"`    // when they are read again, or tried again
}

// Wrong reports whether the ExternalSecret needs a correction.
func (o ExternalSecret) Wrong() bool { return o.State == Failing || o.State == Stale }

// Synced returns the states of ExternalSecrets.
func Synced(all []v1alpha1.ExternalSecret, now time.Time) []ExternalSecret {
	var out []ExternalSecret
	for i := range all {
		out = append(out, synced(&all[i], now))
	}
	return out
}

func synced(es *v1alpha1.ExternalSecret, now time.Time) ExternalSecret {
	o := ExternalSecret{Namespace: es.Namespace, Name: kind + es.Name, Secrets: []status.Secret{},
		Secret: cmp.Or(es.Status.SecretName, es.Spec.Target.Name, es.Name), Ready: string(metav1.ConditionUnknown)}
	for _, s := range es.Status.Secrets {
		o.Secrets = append(o.Secrets, status.Secret{Name: s.Key, Version: s.VersionID})
	}
	if at := es.Status.RefreshTime; at != nil {
		o.Fetched = at.Time
	}
	if at := es.Status.NextRefreshTime; at != nil {
		o.Next = at.Time
	}
	ready := meta.FindStatusCondition(es.Status.Conditions, v1alpha1.ConditionReady)
	if ready != nil {
		o.Ready, o.Reason = string(ready.Status), ready.Reason
	}
	stale := meta.FindStatusCondition(es.Status.Conditions, v1alpha1.ConditionStale) // there only while it is true
	doctor := "kubectl kms doctor -n " + es.Namespace + " externalsecret/" + es.Name + " says why"
	switch {
	case check.Late(es, now) && es.DeletionTimestamp != nil:
		o.State, o.Problem = Failing, "it is being deleted, and kms-sync has not released it: "+doctor
	case es.DeletionTimestamp != nil:
		o.State = Ended
	case ready != nil && ready.Status == metav1.ConditionFalse:
		o.State, o.Problem = map[bool]string{true: Stale, false: Failing}[stale != nil], ready.Message
	case ready == nil && len(es.Status.DataSyncResults) > 0:
		o.original(es.Status.DataSyncResults)
	case stale != nil:
		o.State, o.Problem = Stale, stale.Message
	case check.Late(es, now) && ready != nil:
		o.State, o.Problem = Stale, "kms-sync should have refreshed it "+age(o.Next, now)+": "+doctor
	case check.Late(es, now):
		o.State, o.Problem = Failing, "kms-sync has not looked at it: "+doctor
	case ready == nil || ready.Status != metav1.ConditionTrue || ready.ObservedGeneration != es.Generation:
		o.State = Starting
	case o.Next.IsZero():
		o.State = AtStart
	default:
		o.State = Fresh
	}
	return o
}

// original judges by what ack-secret-manager says, where kms-sync has not taken the object over.
func (o *ExternalSecret) original(results []v1alpha1.DataSyncResult) {
	o.State = Fresh
	for _, r := range results {
		if r.Status == "Failed" {
			o.State = Failing
			o.Problem += "\n" + r.ExternalSecretKey + ": " + r.Reason
		}
		if r.SynchronizationTime != nil && r.SynchronizationTime.After(o.Fetched) {
			o.Fetched = r.SynchronizationTime.Time
		}
	}
	o.Problem = strings.TrimPrefix(o.Problem, "\n")
}

// SyncedTable writes the ExternalSecrets for people.
func SyncedTable(s screen.Screen, all []ExternalSecret, namespaces bool, now time.Time) {
	if len(all) == 0 {
		return
	}
	t := screen.Table{Header: []string{"EXTERNALSECRET", "SECRET", "READY", "REASON", "STATE", "FETCHED", "NEXT", "SECRETS"}}
	if namespaces {
		t.Header = slices.Insert(t.Header, 0, "NAMESPACE")
	}
	var wrong []Pod
	for _, o := range all {
		next := ""
		if !o.Next.IsZero() {
			next = until(o.Next, now)
		}
		row := []string{strings.TrimPrefix(o.Name, kind), o.Secret, o.Ready, o.Reason, o.State, age(o.Fetched, now), next, versions(o.Secrets)}
		if namespaces {
			row = slices.Insert(row, 0, o.Namespace)
		}
		for i := range row {
			row[i] = cmp.Or(row[i], "–")
		}
		t.Add(row...)
		wrong = append(wrong, Pod{Namespace: o.Namespace, Name: o.Name, State: o.State, Problem: o.Problem})
	}
	s.Table(t)
	problems(s, wrong)
}
