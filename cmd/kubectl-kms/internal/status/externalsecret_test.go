package status

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
)

// The state of an ExternalSecret is what its conditions say, and also that kms-sync has said nothing for too long.
func TestSynced(t *testing.T) {
	now := time.Now()
	at := func(ago time.Duration) *metav1.Time { return &metav1.Time{Time: now.Add(-ago)} }
	condition := func(es *v1alpha1.ExternalSecret, of string, status metav1.ConditionStatus, reason, message string) {
		es.Status.Conditions = append(es.Status.Conditions, metav1.Condition{Type: of, Status: status, Reason: reason, Message: message,
			ObservedGeneration: es.Generation})
	}
	well := func(es *v1alpha1.ExternalSecret) {
		condition(es, v1alpha1.ConditionReady, metav1.ConditionTrue, "Synced", "the Secret db is as KMS has it")
		es.Status.ObservedGeneration, es.Status.RefreshTime, es.Status.NextRefreshTime = 1, at(30*time.Second), at(-90*time.Second)
		es.Status.Secrets = []v1alpha1.SyncedSecret{{Key: "app/prod/db", VersionID: "v7"}}
	}
	fails := func(es *v1alpha1.ExternalSecret) {
		well(es)
		es.Status.Conditions = nil
		condition(es, v1alpha1.ConditionReady, metav1.ConditionFalse, "NotTrusted", "get a session; fix: mend the trust policy")
	}
	for name, c := range map[string]struct {
		change      func(*v1alpha1.ExternalSecret)
		state, says string // says is in the table or below it
		wrong       bool
	}{
		"fresh":   {well, Fresh, "\ndb               db       True    Synced   fresh   30s ago   in 90s   app/prod/db@v7\n", false},
		"failing": {fails, Failing, "shop/ExternalSecret/db is failing:\n  get a session; fix: mend the trust policy", true},
		"stale": {func(es *v1alpha1.ExternalSecret) {
			fails(es)
			condition(es, v1alpha1.ConditionStale, metav1.ConditionTrue, "NotRefreshed", "")
		}, Stale, "is stale:\n  get a session", true},
		"waiting": {func(es *v1alpha1.ExternalSecret) {
			well(es)
			condition(es, v1alpha1.ConditionStale, metav1.ConditionTrue, "NotRefreshed", "the budget of calls to KMS is used up")
		}, Stale, "is stale:\n  the budget of calls to KMS is used up", true},
		"overdue": {func(es *v1alpha1.ExternalSecret) {
			well(es)
			es.Status.RefreshTime, es.Status.NextRefreshTime = at(6*time.Minute), at(4*time.Minute)
		}, Stale, "kms-sync should have refreshed it 4m ago: kubectl kms doctor -n shop externalsecret/db says why", true},
		"a little late": {func(es *v1alpha1.ExternalSecret) {
			well(es)
			es.Status.RefreshTime, es.Status.NextRefreshTime = at(3*time.Minute), at(time.Minute)
		}, Fresh, " now ", false},
		"once": {func(es *v1alpha1.ExternalSecret) {
			well(es)
			es.Status.NextRefreshTime = nil
		}, AtStart, "", false},
		"changed": {func(es *v1alpha1.ExternalSecret) {
			well(es)
			es.Generation = 2
		}, Starting, "", false},
		"new": {func(es *v1alpha1.ExternalSecret) { es.CreationTimestamp = *at(time.Second) }, Starting,
			"\ndb               db       Unknown   –        starting   –         –      –\n", false},
		"never looked at": {func(*v1alpha1.ExternalSecret) {}, Failing, "kms-sync has not looked at it", true},
		"ack-secret-manager's": {func(es *v1alpha1.ExternalSecret) {
			es.Status.DataSyncResults = []v1alpha1.DataSyncResult{{Status: "Succeeded", SynchronizationTime: at(time.Minute)}}
		}, Fresh, " 60s ago ", false},
		"ack-secret-manager's, failing": {func(es *v1alpha1.ExternalSecret) {
			es.Status.DataSyncResults = []v1alpha1.DataSyncResult{{Status: "Failed", ExternalSecretKey: "app/prod/db", Reason: "no"}}
		}, Failing, "is failing:\n  app/prod/db: no\n", true},
		"ending": {func(es *v1alpha1.ExternalSecret) {
			fails(es)
			es.DeletionTimestamp = at(time.Second)
		}, Ended, "", false},
		"not released": {func(es *v1alpha1.ExternalSecret) {
			well(es)
			es.DeletionTimestamp = at(time.Hour)
		}, Failing, "kms-sync has not released it", true},
	} {
		es := v1alpha1.ExternalSecret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db", Generation: 1,
			CreationTimestamp: *at(time.Hour)}}
		c.change(&es)
		got := Synced([]v1alpha1.ExternalSecret{es}, now)
		var out bytes.Buffer
		SyncedTable(screen.New(&out, os.Getenv), got, false, now)
		if got[0].State != c.state || got[0].Wrong() != c.wrong || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s: want %s, wrong %t and %q:\n%s", name, c.state, c.wrong, c.says, &out)
		}
	}
}
