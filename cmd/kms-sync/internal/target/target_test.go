package target

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/content"
)

func (c *cluster) apply(es *v1alpha1.ExternalSecret, data map[string]string) Outcome {
	c.t.Helper()
	out, err := c.writer().Apply(c.t.Context(), es, result(data))
	if err != nil {
		c.t.Fatal(err)
	}
	c.synced(es, out)
	return out
}

// synced sets the status as the reconciler does.
func (c *cluster) synced(es *v1alpha1.ExternalSecret, out Outcome) {
	c.t.Helper()
	es.Status.SecretName, es.Status.SecretResourceVersion = out.SecretName, out.ResourceVersion
	es.Status.DataSyncResults = []v1alpha1.DataSyncResult{{Status: "Succeeded"}}
	if err := c.Status().Update(c.t.Context(), es); err != nil {
		c.t.Fatal(err)
	}
}

func reason(err error) string {
	var r *Refused
	if errors.As(err, &r) {
		return r.Reason
	}
	return fmt.Sprint(err)
}

func TestApply(t *testing.T) {
	c := newCluster(t)
	es := c.add("db", nil)
	steps := []struct {
		data   map[string]string
		action Action
		writes int32
	}{
		{map[string]string{"user": "root", "password": "hunter2"}, Created, 1},
		{map[string]string{"user": "root", "password": "hunter2"}, Unchanged, 0},
		{map[string]string{"user": "root", "password": "hunter3"}, Updated, 2}, // and the fields of the creation become those of an apply
		{map[string]string{"user": "root", "password": "hunter4"}, Updated, 1},
		{map[string]string{"password": "hunter4"}, Updated, 1},
		{map[string]string{"password": "hunter4"}, Unchanged, 0},
		{map[string]string{"password": "hunter4", "user": ""}, Updated, 1},
	}
	for i, s := range steps {
		c.writes.Store(0)
		out := c.apply(es, s.data)
		secret := c.secret("db")
		if out.Action != s.action || c.writes.Load() != s.writes || out.ResourceVersion != secret.ResourceVersion {
			t.Errorf("step %d: %+v with %d writes; want %s with %d", i, out, c.writes.Load(), s.action, s.writes)
		}
		if got, want := text(secret), text(&corev1.Secret{Data: values(s.data)}); got != want {
			t.Errorf("step %d: %s, want %s", i, got, want)
		}
	}
	if m := Manager(es); len(m) > 128 || !strings.HasPrefix(m, "kms-sync/") {
		t.Errorf("field manager %q", m)
	}
	for _, entry := range c.secret("db").ManagedFields {
		if entry.Manager != Manager(es) || entry.Operation != metav1.ManagedFieldsOperationApply {
			t.Errorf("%s by %s", entry.Operation, entry.Manager)
		}
	}
	if got := Claimants(c.secret("db")); len(got) != 1 || got[0] != client.ObjectKeyFromObject(es) {
		t.Errorf("claimants %v", got)
	}
}

func TestForeignKeysStay(t *testing.T) {
	c := newCluster(t)
	es := c.add("db", nil)
	c.apply(es, map[string]string{"password": "hunter2", "old": "x"})
	c.edit("db", func(s *corev1.Secret) {
		s.Data["extra"] = []byte("theirs")
		s.Labels["team"], s.Annotations["note"] = "a", "b"
	})
	c.apply(es, map[string]string{"password": "hunter3"})
	if got := text(c.secret("db")); got != "[extra=theirs password=hunter3]" {
		t.Error(got)
	}
	if s := c.secret("db"); s.Labels["team"] != "a" || s.Annotations["note"] != "b" {
		t.Errorf("labels %v, annotations %v", s.Labels, s.Annotations)
	}
	_, err := c.writer().Apply(t.Context(), es, result(map[string]string{"password": "hunter3", "extra": "ours"}))
	if reason(err) != NotOwned || !strings.Contains(err.Error(), "extra") {
		t.Error(err)
	}
	// A drift of our key is repaired, and the key stays ours.
	c.edit("db", func(s *corev1.Secret) { s.Data["password"] = []byte("edited") })
	c.apply(es, map[string]string{"password": "hunter3"})
	c.apply(es, map[string]string{"user": "root"})
	if got := text(c.secret("db")); got != "[extra=theirs user=root]" {
		t.Error(got)
	}
}

// TestKeysOfARestore: a restore writes the Secret under a field manager of its own.
func TestKeysOfARestore(t *testing.T) {
	c := newCluster(t)
	es := c.add("db", nil)
	c.apply(es, map[string]string{"password": "hunter2", "old": "x"})
	backup := c.secret("db")
	c.remove("db")
	c.make("db", "velero-server", nil, func(s *corev1.Secret) {
		s.Labels, s.Annotations, s.Data = backup.Labels, backup.Annotations, backup.Data
	})
	if out := c.apply(es, map[string]string{"password": "hunter2", "old": "x"}); out.Action != Unchanged {
		t.Errorf("a restored Secret: %s", out.Action)
	}
	c.apply(es, map[string]string{"password": "hunter3"})
	if got := text(c.secret("db")); got != "[password=hunter3]" {
		t.Error(got)
	}
	if got := c.secret("db").Annotations[keysAnnotation(es)]; got != "shop/db:password" {
		t.Error(got)
	}
	// A key that the restore holds too goes before the Secret becomes immutable.
	c.remove("db")
	c.make("db", "velero-server", nil, func(s *corev1.Secret) {
		s.Labels, s.Annotations, s.Data = backup.Labels, backup.Annotations, backup.Data
	})
	es.Spec.Target.Immutable = true
	c.apply(es, map[string]string{"password": "hunter4"})
	if s := c.secret("db"); text(s) != "[password=hunter4]" || s.Immutable == nil || !*s.Immutable {
		t.Error(text(s), s.Immutable)
	}
}

func TestTemplateMetadata(t *testing.T) {
	c := newCluster(t)
	es := c.add("db", nil)
	r := result(map[string]string{"a": "1"})
	for _, step := range []struct{ labels, annotations map[string]string }{
		{map[string]string{"app": "web", "tier": "x"}, map[string]string{"note": "1"}},
		{map[string]string{"app": "web"}, map[string]string{"note": "2"}},
		{map[string]string{"app": "api"}, nil},
		{nil, nil},
	} {
		r.Labels, r.Annotations = step.labels, step.annotations
		if _, err := c.writer().Apply(t.Context(), es, r); err != nil {
			t.Fatal(err)
		}
		s := c.secret("db")
		delete(s.Labels, LabelSynced)
		delete(s.Annotations, AnnotationOwner)
		delete(s.Annotations, keysAnnotation(es))
		if !contains(s.Labels, r.Labels) || len(s.Labels) != len(r.Labels) || !contains(s.Annotations, r.Annotations) ||
			len(s.Annotations) != len(r.Annotations) {
			t.Errorf("labels %v, annotations %v; want %v and %v", s.Labels, s.Annotations, r.Labels, r.Annotations)
		}
	}
}

func TestAdoption(t *testing.T) {
	succeeded := func(es *v1alpha1.ExternalSecret) {
		es.Status.DataSyncResults = []v1alpha1.DataSyncResult{{Status: "Succeeded"}}
	}
	consent := func(s *corev1.Secret) { s.Annotations = map[string]string{v1alpha1.AnnotationAdopt: "true"} }
	for name, tc := range map[string]struct {
		object  func(*v1alpha1.ExternalSecret)
		manager string
		secret  func(*corev1.Secret)
		want    string // a reason, or the data
	}{
		"ack-secret-manager 0.6 made it": {succeeded, originalManager, nil, "[foreign=x password=new]"},
		"ack-secret-manager 0.5 made it": {nil, originalManager, func(s *corev1.Secret) {
			s.Labels = map[string]string{originalLabel: "2025-01-01"}
		}, "[foreign=x password=new]"},
		"0.5 without its label": {nil, originalManager, nil, NotOwned},
		"0.5 of another name": {func(es *v1alpha1.ExternalSecret) { es.Name = "other"; es.Spec.Target.Name = "db" }, originalManager,
			func(s *corev1.Secret) { s.Labels = map[string]string{originalLabel: "2025-01-01"} }, NotOwned},
		"no finalizer": {func(es *v1alpha1.ExternalSecret) { succeeded(es); es.Finalizers = nil }, originalManager, nil, NotOwned},
		"it never synced": {func(es *v1alpha1.ExternalSecret) {
			es.Status.DataSyncResults = []v1alpha1.DataSyncResult{{Status: "Failed"}}
		}, originalManager, nil, NotOwned},
		"another program made it": {succeeded, "helm", nil, NotOwned},
		"the status is of kms-sync": {func(es *v1alpha1.ExternalSecret) { succeeded(es); es.Status.SecretName = "mine" },
			originalManager, nil, NotOwned},
		"its own annotation": {nil, "helm", consent, "[foreign=x old=x password=new]"},
		"the annotation on the ExternalSecret": {func(es *v1alpha1.ExternalSecret) {
			es.Annotations = map[string]string{v1alpha1.AnnotationAdopt: "true"}
		}, "helm", nil, NotOwned},
		"a copy of another namespace's": {nil, "reflector", func(s *corev1.Secret) {
			s.Labels = map[string]string{LabelSynced: "true"}
			s.Annotations = map[string]string{AnnotationOwner: "prod/db", keysPrefix + "db": "prod/db:old,password"}
		}, NotOwned},
		"of an ExternalSecret that is gone": {nil, "x", func(s *corev1.Secret) {
			s.Annotations = map[string]string{AnnotationOwner: "shop/gone"}
		}, NotOwned},
		"of one that is gone, with consent": {nil, "x", func(s *corev1.Secret) {
			consent(s)
			s.Annotations[AnnotationOwner] = "shop/gone"
		}, "[foreign=x old=x password=new]"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			es := c.add("db", tc.object)
			before := c.make("db", tc.manager, map[string]string{"password": "old", "old": "x"}, tc.secret)
			c.edit("db", func(s *corev1.Secret) { s.Data["foreign"] = []byte("x") })
			c.writes.Store(0)
			if err := c.may(es); (err == nil) != strings.HasPrefix(tc.want, "[") && reason(err) != tc.want {
				t.Errorf("it may: %v", err)
			}
			out, err := c.writer().Apply(t.Context(), es, result(map[string]string{"password": "new"}))
			if !strings.HasPrefix(tc.want, "[") {
				if reason(err) != tc.want || c.writes.Load() != 0 || text(c.secret("db")) != "[foreign=x old=x password=old]" {
					t.Errorf("%v, %d writes: %s", err, c.writes.Load(), text(c.secret("db")))
				}
				return
			}
			if err != nil || out.Action != Adopted || text(c.secret("db")) != tc.want || c.secret("db").UID != before.UID {
				t.Errorf("%v %v: %s", out, err, text(c.secret("db")))
			}
			if slices.ContainsFunc(c.secret("db").ManagedFields, func(m metav1.ManagedFieldsEntry) bool { return m.Manager == originalManager }) {
				t.Error("ack-secret-manager still holds fields")
			}
			c.synced(es, out)
			if out := c.apply(es, map[string]string{"password": "new"}); out.Action != Unchanged {
				t.Errorf("then %s", out.Action)
			}
		})
	}
}

// TestHostileTenant is what a tenant that may only write ExternalSecrets does with ack-secret-manager to Secrets that are not its own:
// overwrites and deletes them by their name (also as the one that deletes what an older object of the name left), and has Kubernetes make
// tokens. No row writes anything, and each gets its refusal.
func TestHostileTenant(t *testing.T) {
	tls := map[string]string{"tls.crt": "c", "tls.key": "k"}
	for name, tc := range map[string]struct {
		object func(*v1alpha1.ExternalSecret)
		result content.Result
		want   string
	}{
		"overwrites a TLS Secret by target.name": {func(es *v1alpha1.ExternalSecret) { es.Spec.Target.Name = "victim" },
			content.Result{Type: corev1.SecretTypeTLS, Data: values(map[string]string{"tls.crt": "mine", "tls.key": "mine"})}, NotOwned},
		"and consents itself": {func(es *v1alpha1.ExternalSecret) {
			es.Spec.Target.Name, es.Annotations = "victim", map[string]string{v1alpha1.AnnotationAdopt: "true"}
		}, result(map[string]string{"tls.key": "mine"}), NotOwned},
		"claims to be of ack-secret-manager": {func(es *v1alpha1.ExternalSecret) {
			es.Spec.Target.Name, es.Status.DataSyncResults = "victim", []v1alpha1.DataSyncResult{{Status: "Succeeded"}}
		}, result(map[string]string{"tls.key": "mine"}), NotOwned},
		"overwrites a key by Merge": {func(es *v1alpha1.ExternalSecret) {
			es.Spec.Target.Name, es.Spec.Target.CreationPolicy = "victim", v1alpha1.CreateMerge
		}, result(map[string]string{"tls.key": "mine"}), NotOwned},
		"labels another's Secret by Merge": {func(es *v1alpha1.ExternalSecret) {
			es.Spec.Target.Name, es.Spec.Target.CreationPolicy = "victim", v1alpha1.CreateMerge
		}, content.Result{Data: values(map[string]string{"new": "x"}), Labels: map[string]string{"a": "b"}}, InvalidSpec},
		"makes another's Secret immutable by Merge": {func(es *v1alpha1.ExternalSecret) {
			es.Spec.Target.Name, es.Spec.Target.CreationPolicy, es.Spec.Target.Immutable = "victim", v1alpha1.CreateMerge, true
		}, result(map[string]string{"new": "x"}), InvalidSpec},
		"deletes another's Secret by Merge": {func(es *v1alpha1.ExternalSecret) {
			es.Spec.Target.Name, es.Spec.Target.CreationPolicy = "victim", v1alpha1.CreateMerge
			es.Spec.Target.DeletionPolicy = v1alpha1.DeletionDelete
		}, result(map[string]string{"new": "x"}), InvalidSpec},
		"has a ServiceAccount's token made": {nil, content.Result{Type: corev1.SecretTypeServiceAccountToken, Data: values(tls),
			Annotations: map[string]string{corev1.ServiceAccountNameKey: "admin"}}, DangerousType},
		"by the annotation alone": {nil, content.Result{Type: corev1.SecretTypeOpaque, Data: values(tls),
			Annotations: map[string]string{corev1.ServiceAccountNameKey: "admin"}}, DangerousType},
		"has a bootstrap token made": {nil, content.Result{Type: corev1.SecretTypeBootstrapToken, Data: values(tls)}, DangerousType},
		"writes into a token's Secret": {func(es *v1alpha1.ExternalSecret) {
			es.Spec.Target.Name, es.Spec.Target.CreationPolicy = "token", v1alpha1.CreateMerge
		}, result(map[string]string{"new": "x"}), DangerousType},
		"forges the mark of an owner": {nil, content.Result{Type: corev1.SecretTypeOpaque, Data: values(tls),
			Annotations: map[string]string{AnnotationOwner: "shop/other"}}, DangerousType},
		"forges a list of keys": {nil, content.Result{Type: corev1.SecretTypeOpaque, Data: values(tls),
			Annotations: map[string]string{keysPrefix + "other": "shop/other:tls.key"}}, DangerousType},
		"forges the label": {nil, content.Result{Type: corev1.SecretTypeOpaque, Data: values(tls),
			Labels: map[string]string{LabelSynced: "no"}}, DangerousType},
		"takes the Secret of another ExternalSecret": {func(es *v1alpha1.ExternalSecret) { es.Spec.Target.Name = "neighbour" },
			result(map[string]string{"a": "mine"}), Conflict},
		"takes a key of another ExternalSecret": {func(es *v1alpha1.ExternalSecret) {
			es.Spec.Target.Name, es.Spec.Target.CreationPolicy = "neighbour", v1alpha1.CreateMerge
		}, result(map[string]string{"a": "mine"}), Conflict},
		"has an empty Secret made": {nil, content.Result{Type: corev1.SecretTypeOpaque}, InvalidSpec},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.apply(c.add("neighbour", nil), map[string]string{"a": "1"})
			es := c.add("evil", func(es *v1alpha1.ExternalSecret) {
				es.CreationTimestamp = metav1.NewTime(time.Unix(1_600_000_000, 0)) // it is older, which does not help it
				if tc.object != nil {
					tc.object(es)
				}
			})
			c.make("victim", "helm", tls, func(s *corev1.Secret) { s.Type = corev1.SecretTypeTLS })
			c.make("token", "helm", tls, func(s *corev1.Secret) {
				s.Type, s.Annotations = corev1.SecretTypeServiceAccountToken, map[string]string{corev1.ServiceAccountNameKey: "default"}
			})
			all := func() string {
				var text string
				for _, name := range []string{"victim", "token", "neighbour", "evil"} {
					if s := c.secret(name); s != nil {
						text += fmt.Sprint(s)
					}
				}
				return text
			}
			before := all()
			c.writes.Store(0)
			if _, err := c.writer().Apply(t.Context(), es, tc.result); reason(err) != tc.want {
				t.Errorf("%v; want %s", err, tc.want)
			}
			for _, other := range []string{"victim", "token", "neighbour"} { // as a deletion, and after a rename
				es.Status.SecretName = other
				if err := c.writer().Release(t.Context(), es); err != nil {
					t.Error(err)
				}
				if _, err := c.writer().Gone(t.Context(), es); err != nil && reason(err) != InvalidSpec {
					t.Error(err)
				}
			}
			if c.writes.Load() != 0 || all() != before {
				t.Errorf("%d writes:\n%s\n%s", c.writes.Load(), before, all())
			}
		})
	}
}

// TestPolicies is the table of what becomes of a Secret with the keys ours=1 and, in Merge, theirs=2.
func TestPolicies(t *testing.T) {
	const refused = "refused"
	for _, tc := range []struct {
		creation v1alpha1.Policy
		deletion v1alpha1.Policy
		gone     string // KMS has no secret of the object any more
		deleted  string // the object is deleted
		foreign  string // it is deleted, and a stranger has added theirs=2
	}{ // with deletionPolicy Merge a stranger's key stays too
		{"", "", "[ours=1]", "none", "[theirs=2]"},
		{v1alpha1.CreateOwner, v1alpha1.DeletionRetain, "[ours=1]", "none", "[theirs=2]"},
		{v1alpha1.CreateOwner, v1alpha1.DeletionDelete, "none", "none", "[theirs=2]"},
		{v1alpha1.CreateOwner, v1alpha1.DeletionMerge, "[]", "none", "[theirs=2]"},
		{v1alpha1.CreateOrphan, v1alpha1.DeletionRetain, "[ours=1]", "[ours=1]", "[ours=1 theirs=2]"},
		{v1alpha1.CreateOrphan, v1alpha1.DeletionDelete, refused, refused, refused},
		{v1alpha1.CreateOrphan, v1alpha1.DeletionMerge, "[]", "[ours=1]", "[ours=1 theirs=2]"},
		{v1alpha1.CreateMerge, v1alpha1.DeletionRetain, "[ours=1 theirs=2]", "[theirs=2]", "[theirs=2]"},
		{v1alpha1.CreateMerge, v1alpha1.DeletionDelete, refused, refused, refused},
		{v1alpha1.CreateMerge, v1alpha1.DeletionMerge, "[theirs=2]", "[theirs=2]", "[theirs=2]"},
	} {
		events := map[string]string{"gone": tc.gone, "deleted": tc.deleted, "foreign": tc.foreign}
		if tc.deletion == v1alpha1.DeletionMerge {
			events["gone, foreign"] = "[theirs=2]"
		}
		for event, want := range events {
			t.Run(fmt.Sprintf("%s-%s-%s", tc.creation, tc.deletion, event), func(t *testing.T) {
				c := newCluster(t)
				es := c.add("db", func(es *v1alpha1.ExternalSecret) {
					es.Spec.Target.CreationPolicy, es.Spec.Target.DeletionPolicy = tc.creation, tc.deletion
				})
				if tc.creation == v1alpha1.CreateMerge {
					c.make("db", "helm", map[string]string{"theirs": "2"}, nil)
				}
				out, err := c.writer().Apply(t.Context(), es, result(map[string]string{"ours": "1"}))
				if want == refused {
					if reason(err) != InvalidSpec {
						t.Error(err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				c.synced(es, out)
				if strings.Contains(event, "foreign") {
					c.edit("db", func(s *corev1.Secret) { s.Data["theirs"] = []byte("2") })
				}
				if strings.Contains(event, "gone") {
					_, err = c.writer().Gone(t.Context(), es)
				} else {
					err = c.writer().Release(t.Context(), es)
				}
				if err != nil || text(c.secret("db")) != want {
					t.Errorf("%v: %s, want %s", err, text(c.secret("db")), want)
				}
				if s := c.secret("db"); s != nil && !strings.Contains(event, "gone") && tc.creation != v1alpha1.CreateOrphan &&
					len(Claimants(s))+len(s.Labels) > 0 {
					t.Errorf("its marks are left: %v %v", s.Labels, s.Annotations)
				}
				c.writes.Store(0)
				if strings.Contains(event, "gone") {
					_, err = c.writer().Gone(t.Context(), es)
				} else {
					err = c.writer().Release(t.Context(), es)
				}
				if err != nil || c.writes.Load() != 0 {
					t.Errorf("again: %v, %d writes", err, c.writes.Load())
				}
			})
		}
	}
}

func TestMergeNeedsASecret(t *testing.T) {
	c := newCluster(t)
	es := c.add("db", func(es *v1alpha1.ExternalSecret) { es.Spec.Target.CreationPolicy = v1alpha1.CreateMerge })
	if _, err := c.writer().Apply(t.Context(), es, result(map[string]string{"a": "1"})); reason(err) != Missing {
		t.Error(err)
	}
	if err := c.may(es); reason(err) != Missing {
		t.Error(err)
	}
}

// TestSeveralMerge: several ExternalSecrets add keys to the Secret of another one, and go one after the other.
func TestSeveralMerge(t *testing.T) {
	c := newCluster(t)
	base := c.add("base", nil)
	c.apply(base, map[string]string{"base": "0"})
	var merging []*v1alpha1.ExternalSecret
	for i, name := range []string{"one", "two"} {
		es := c.add(name, func(es *v1alpha1.ExternalSecret) {
			es.Spec.Target.Name, es.Spec.Target.CreationPolicy = "base", v1alpha1.CreateMerge
		})
		c.apply(es, map[string]string{name: fmt.Sprint(i + 1)})
		merging = append(merging, es)
	}
	for _, es := range append(merging, base) {
		if err := c.may(es); err != nil {
			t.Error(err)
		}
	}
	if out := c.apply(base, map[string]string{"base": "0"}); out.Action != Unchanged {
		t.Error(out)
	}
	if got := text(c.secret("base")); got != "[base=0 one=1 two=2]" {
		t.Error(got)
	}
	for i, want := range []string{"[base=0 two=2]", "[base=0]"} {
		if err := c.writer().Release(t.Context(), merging[i]); err != nil || text(c.secret("base")) != want {
			t.Errorf("%v: %s, want %s", err, text(c.secret("base")), want)
		}
		if c.secret("base").Labels[LabelSynced] != "true" {
			t.Error("the label went with it")
		}
	}
	if err := c.writer().Release(t.Context(), base); err != nil || c.secret("base") != nil {
		t.Errorf("%v: %s", err, text(c.secret("base")))
	}
}

func TestTheOlderMakesTheSecret(t *testing.T) {
	named := func(es *v1alpha1.ExternalSecret) { es.Spec.Target.Name = "shared" }
	c := newCluster(t)
	old, young := c.add("old", named), c.add("young", named)
	_, err := c.writer().Apply(t.Context(), young, result(map[string]string{"a": "young"}))
	if reason(err) != Conflict || !strings.Contains(err.Error(), "shop/old") {
		t.Error(err)
	}
	c.apply(old, map[string]string{"a": "old"})
	for range 3 {
		if _, err := c.writer().Apply(t.Context(), young, result(map[string]string{"a": "young"})); reason(err) != Conflict {
			t.Error(err)
		}
		if out := c.apply(old, map[string]string{"a": "old"}); out.Action != Unchanged {
			t.Error(out)
		}
	}
	// The Secret of a younger one is not taken over by an older one that is changed to want it.
	late := c.add("late", nil)
	c.apply(late, map[string]string{"a": "late"})
	old.Spec.Target.Name = "late"
	if _, err := c.writer().Apply(t.Context(), old, result(map[string]string{"a": "old"})); reason(err) != Conflict {
		t.Error(err)
	}
	if text(c.secret("late")) != "[a=late]" {
		t.Error(text(c.secret("late")))
	}
}

func TestRename(t *testing.T) {
	for policy, left := range map[v1alpha1.Policy]string{
		v1alpha1.CreateOwner: "none", v1alpha1.CreateOrphan: "[a=1]", v1alpha1.CreateMerge: "[theirs=2]",
	} {
		t.Run(string(policy), func(t *testing.T) {
			c := newCluster(t)
			es := c.add("db", func(es *v1alpha1.ExternalSecret) { es.Spec.Target.CreationPolicy = policy })
			if policy == v1alpha1.CreateMerge {
				for _, name := range []string{"db", "new"} {
					c.make(name, "helm", map[string]string{"theirs": "2"}, nil)
				}
			}
			c.apply(es, map[string]string{"a": "1"})
			es.Spec.Target.Name = "new"
			if err := c.Update(t.Context(), es); err != nil {
				t.Fatal(err)
			}
			es.Status.SecretName = "" // as after a restore of the object
			c.apply(es, map[string]string{"a": "1"})
			if got := text(c.secret("db")); got != left {
				t.Errorf("the old one: %s, want %s", got, left)
			}
			if c.secret("new") == nil {
				t.Error("no new one")
			}
		})
	}
}

func TestType(t *testing.T) {
	c := newCluster(t)
	es := c.add("db", nil)
	r := result(map[string]string{"tls.crt": "c", "tls.key": "k"})
	apply := func() (Outcome, error) { return c.writer().Apply(t.Context(), es, r) }
	if _, err := apply(); err != nil {
		t.Fatal(err)
	}
	r.Type = corev1.SecretTypeTLS
	_, err := apply()
	if reason(err) != TypeChanged || !strings.Contains(err.Error(), AnnotationRecreate) || c.secret("db").Type != corev1.SecretTypeOpaque {
		t.Error(err)
	}
	c.edit("db", func(s *corev1.Secret) { s.Annotations[AnnotationRecreate], s.Data["theirs"] = "true", []byte("2") })
	if _, err := apply(); reason(err) != TypeChanged || text(c.secret("db")) != "[theirs=2 tls.crt=c tls.key=k]" {
		t.Error("a foreign key goes", err)
	}
	c.edit("db", func(s *corev1.Secret) { delete(s.Data, "theirs") })
	if out, err := apply(); err != nil || out.Action != Created || c.secret("db").Type != corev1.SecretTypeTLS {
		t.Error(out, err)
	}
	// A Secret of type TLS cannot lose its keys: its marks go.
	c.edit("db", func(s *corev1.Secret) { s.Data["ca.crt"] = []byte("2") })
	if err := c.writer().Release(t.Context(), es); err != nil || text(c.secret("db")) != "[ca.crt=2 tls.crt=c tls.key=k]" ||
		len(Claimants(c.secret("db"))) > 0 {
		t.Errorf("%v: %s", err, text(c.secret("db")))
	}
}

// TestOwnerToMerge: a Secret keeps the type that its owner gave it when the owner becomes one that adds keys.
func TestOwnerToMerge(t *testing.T) {
	c := newCluster(t)
	es := c.add("db", func(es *v1alpha1.ExternalSecret) { es.Spec.Type = corev1.SecretTypeTLS })
	for _, policy := range []v1alpha1.Policy{v1alpha1.CreateOwner, v1alpha1.CreateMerge} {
		es.Spec.Target.CreationPolicy = policy
		c.save(es)
		for _, key := range []string{"1", "2"} {
			r := content.Result{Type: corev1.SecretTypeTLS, Data: values(map[string]string{"tls.crt": string(policy), "tls.key": key})}
			_, err := c.writer().Apply(t.Context(), es, r)
			if s := c.secret("db"); err != nil || s.Type != r.Type || !includes(s.Data, r.Data) {
				t.Errorf("%s, %s: %v: %s %s", policy, key, err, s.Type, text(s))
			}
		}
	}
}

// TestGoneTwice: what deletionPolicy Merge removes is removed once, with the template's labels and annotations, and nothing is written
// after it.
func TestGoneTwice(t *testing.T) {
	c := newCluster(t)
	es := c.add("db", func(es *v1alpha1.ExternalSecret) { es.Spec.Target.DeletionPolicy = v1alpha1.DeletionMerge })
	r := result(map[string]string{"a": "1"})
	r.Labels, r.Annotations = map[string]string{"team": "a"}, map[string]string{"note": "b"}
	if _, err := c.writer().Apply(t.Context(), es, r); err != nil {
		t.Fatal(err)
	}
	es.Spec.Target.Immutable = true // a Secret without data is none that is written once
	c.save(es)
	for _, want := range []Action{Updated, Unchanged} {
		out, err := c.writer().Gone(t.Context(), es)
		s := c.secret("db")
		if err != nil || out.Action != want || text(s) != "[]" || s.Labels["team"]+s.Annotations["note"] != "" || !claimed(es, s).owner {
			t.Errorf("%v %v, want %s: %s %v %v", out, err, want, text(s), s.Labels, s.Annotations)
		}
	}
	if out, err := c.writer().Apply(t.Context(), es, r); err != nil || out.Action != Updated || c.secret("db").Labels["team"] != "a" {
		t.Errorf("when KMS has it again: %v %v", out, err)
	}
}

func TestImmutable(t *testing.T) {
	c := newCluster(t)
	es := c.add("db", func(es *v1alpha1.ExternalSecret) { es.Spec.Target.Immutable = true })
	c.apply(es, map[string]string{"a": "1"})
	if s := c.secret("db"); s.Immutable == nil || !*s.Immutable {
		t.Error("not immutable")
	}
	if out := c.apply(es, map[string]string{"a": "1"}); out.Action != Unchanged {
		t.Error(out)
	}
	for _, other := range []map[string]string{{"a": "2"}, {"a": "1", "b": "3"}, {"b": "3"}} {
		if _, err := c.writer().Apply(t.Context(), es, result(other)); reason(err) != Immutable || text(c.secret("db")) != "[a=1]" {
			t.Error(other, err, text(c.secret("db")))
		}
	}
	es.Spec.Target.Immutable = false
	if _, err := c.writer().Apply(t.Context(), es, result(map[string]string{"a": "2"})); reason(err) != Immutable {
		t.Error(err)
	}
	c.remove("db")
	if out := c.apply(es, map[string]string{"a": "2"}); out.Action != Created {
		t.Error(out)
	}
	es.Spec.Target.Immutable = true
	if out := c.apply(es, map[string]string{"a": "3"}); out.Action != Updated || !*c.secret("db").Immutable ||
		text(c.secret("db")) != "[a=3]" {
		t.Error(out)
	}
	if err := c.writer().Release(t.Context(), es); err != nil || c.secret("db") != nil {
		t.Error(err)
	}
	// One that is immutable already is adopted if it is as it is to be.
	c.make("db", "helm", map[string]string{"a": "1"}, func(s *corev1.Secret) {
		s.Immutable, s.Annotations = new(true), map[string]string{v1alpha1.AnnotationAdopt: "true"}
	})
	if _, err := c.writer().Apply(t.Context(), es, result(map[string]string{"a": "2"})); reason(err) != Immutable {
		t.Error(err)
	}
	if out := c.apply(es, map[string]string{"a": "1"}); out.Action != Adopted {
		t.Error(out)
	}
}

func TestCurrent(t *testing.T) {
	c := newCluster(t)
	es := c.add("db", nil)
	w := c.writer()
	current := func(w *Writer) State {
		t.Helper()
		s, err := w.Current(t.Context(), es)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := current(w); s.Exists || s.Intact {
		t.Errorf("before: %+v", s)
	}
	out, err := w.Apply(t.Context(), es, result(map[string]string{"a": "1"}))
	if err != nil {
		t.Fatal(err)
	}
	if s := current(w); !s.Exists || !s.Intact {
		t.Errorf("before its status is written: %+v", s)
	}
	c.synced(es, out)
	if s := current(c.writer()); !s.Intact {
		t.Errorf("after a restart: %+v", s)
	}
	for _, step := range []struct {
		name            string
		change          func(*corev1.Secret)
		intact, restart bool
	}{
		{"a foreign key", func(s *corev1.Secret) { s.Data["b"], s.Labels["x"] = []byte("2"), "y" }, true, false},
		{"our key", func(s *corev1.Secret) { s.Data["a"] = []byte("2") }, false, false},
		{"our key as it was", func(s *corev1.Secret) { s.Data["a"] = []byte("1") }, true, false},
		{"no label", func(s *corev1.Secret) { delete(s.Labels, LabelSynced) }, false, false},
		{"no marks", func(s *corev1.Secret) { s.Labels, s.Annotations = nil, nil }, false, false},
	} {
		c.edit("db", step.change)
		if s := current(w); s.Intact != step.intact || s.ResourceVersion != c.secret("db").ResourceVersion {
			t.Errorf("%s: %+v", step.name, s)
		}
		if s := current(c.writer()); s.Intact != step.restart {
			t.Errorf("%s, after a restart: %+v", step.name, s)
		}
	}
	c.remove("db")
	if s := current(w); s.Exists {
		t.Errorf("without the Secret: %+v", s)
	}
}

// TestRaces: what changes between the decision and the write is decided again.
func TestRaces(t *testing.T) {
	mine := map[string]string{"a": "1"}
	for name, tc := range map[string]struct {
		exists bool
		race   func(*cluster)
		want   string
	}{
		"a stranger makes the Secret": {false, func(c *cluster) { c.make("db", stranger, map[string]string{"a": "theirs"}, nil) }, "[a=theirs]"},
		"a stranger adds a key": {true, func(c *cluster) {
			c.edit("db", func(s *corev1.Secret) { s.Data["b"] = []byte("theirs") })
		}, "[a=1 b=theirs]"},
		"a stranger replaces the Secret": {true, func(c *cluster) {
			c.remove("db")
			c.make("db", stranger, map[string]string{"a": "theirs"}, nil)
		}, "[a=theirs]"},
		"a stranger deletes the Secret": {true, func(c *cluster) { c.remove("db") }, "[a=1]"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			es := c.add("db", nil)
			if tc.exists {
				c.apply(es, map[string]string{"a": "0"})
			}
			c.before = func(string, string) { tc.race(c) }
			_, err := c.writer().Apply(t.Context(), es, result(mine))
			if got := text(c.secret("db")); got != tc.want || (err != nil) != strings.HasPrefix(tc.want, "[a=theirs") {
				t.Errorf("apply: %v: %s, want %s", err, got, tc.want)
			}
		})
		t.Run("released, "+name, func(t *testing.T) {
			if !tc.exists {
				t.SkipNow()
			}
			c := newCluster(t)
			es := c.add("db", nil)
			c.apply(es, mine)
			c.before = func(string, string) { tc.race(c) }
			err := c.writer().Release(t.Context(), es)
			want := map[string]string{"[a=1 b=theirs]": "[b=theirs]", "[a=1]": "none"}[tc.want]
			if want == "" {
				want = tc.want
			}
			if got := text(c.secret("db")); err != nil || got != want {
				t.Errorf("release: %v: %s, want %s", err, got, want)
			}
		})
	}
}

func TestEndings(t *testing.T) {
	now := metav1.Now()
	for name, breaks := range map[string]func(client.Object) error{
		"the namespace is being deleted": func(o client.Object) error { return deleting(o, "Namespace", &now) },
		"the CRD is being deleted":       func(o client.Object) error { return deleting(o, "CustomResourceDefinition", &now) },
		"neither can be read": func(o client.Object) error {
			if _, ok := o.(*metav1.PartialObjectMetadata); ok {
				return apierrors.NewForbidden(corev1.Resource("x"), "", errors.New("no right"))
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			es := c.add("db", nil)
			c.apply(es, map[string]string{"a": "1"})
			c.writes.Store(0)
			w := &Writer{Client: c, Cached: c, Live: reader{c, breaks}}
			err := w.Release(t.Context(), es)
			if (err != nil) != (name == "neither can be read") || c.writes.Load() > 0 || text(c.secret("db")) != "[a=1]" {
				t.Errorf("%v, %d writes: %s", err, c.writes.Load(), text(c.secret("db")))
			}
		})
	}
}

type reader struct {
	client.Reader
	breaks func(client.Object) error
}

func (r reader) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	err := r.Reader.Get(ctx, key, o, opts...)
	if b := r.breaks(o); b != nil {
		return b
	}
	return err
}

func deleting(o client.Object, kind string, now *metav1.Time) error {
	if m, ok := o.(*metav1.PartialObjectMetadata); ok && m.Kind == kind {
		m.DeletionTimestamp = now
	}
	return nil
}

// TestValuesAreInNoError: API servers, webhooks and policies quote what they refuse, in parts and in any form; who refuses is named.
func TestValuesAreInNoError(t *testing.T) {
	const value, encoded, before = "-----BEGIN\nhunter2\n", "LS0tLS1CRUdJTgpodW50ZXIyCg==", "hunter1"
	forbidden := func(format string, args ...any) error {
		return apierrors.NewForbidden(corev1.Resource("secrets"), "db", fmt.Errorf(format, args...))
	}
	denied := func(code int32, reason metav1.StatusReason) error {
		return &apierrors.StatusError{ErrStatus: metav1.Status{
			Code: code, Reason: reason, Message: fmt.Sprintf(`admission webhook "a.b.c" denied the request: data %q`, value),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Field: before, Type: value, Message: value}}},
		}}
	}
	for name, of := range map[string]struct {
		refusal error
		says    string
	}{
		"a webhook":          {denied(403, value), `403 Forbidden, admission webhook "a.b.c" denied the request;`},
		"a webhook, invalid": {denied(422, metav1.StatusReasonInvalid), `admission webhook "a.b.c" denied the request;`},
		"a webhook's failure": {apierrors.NewInternalError(errors.New(`failed calling webhook "a.b.c": ` + value)),
			`failed calling webhook "a.b.c";`},
		"a policy": {forbidden("ValidatingAdmissionPolicy 'p' with binding 'b' denied request: %s", value),
			"ValidatingAdmissionPolicy 'p' with binding 'b' denied request;"},
		"a quota":            {forbidden("exceeded quota: few, requested: count/secrets=1"), "exceeded quota: few;"},
		"no right":           {forbidden(`User "system:serviceaccount:k:s" cannot patch resource "secrets"`), `cannot patch resource "secrets";`},
		"a part":             {forbidden("denied: password=hunter2"), "403 Forbidden;"},
		"what it has so far": {forbidden("denied: change of " + before), "403 Forbidden;"},
		"in base64":          {apierrors.NewInternalError(errors.New("cannot parse " + encoded)), "500 Internal Server Error;"},
		"invalid":            {apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Secret").GroupKind(), "db", nil), "invalid"},
		"plain":              {errors.New("dial tcp: connection refused"), "connection refused"},
	} {
		for _, verb := range []string{"create", "apply"} {
			c := newCluster(t)
			es := c.add("db", nil)
			if verb == "apply" {
				c.apply(es, map[string]string{"password": before})
			}
			c.breaks = func(doing string, _ client.Object) error {
				if doing == verb {
					return of.refusal
				}
				return nil
			}
			_, err := c.writer().Apply(t.Context(), es, result(map[string]string{"password": value}))
			if err == nil || strings.Contains(err.Error(), "hunter") || strings.Contains(err.Error(), encoded) ||
				!strings.Contains(err.Error(), "the Secret db") || !strings.Contains(err.Error(), of.says) {
				t.Errorf("%s, %s: %v", name, verb, err)
			}
		}
	}
	c := newCluster(t)
	_, err := c.writer().Apply(t.Context(), c.add("db", nil),
		content.Result{Type: corev1.SecretTypeTLS, Data: values(map[string]string{"tls.crt": value})})
	if reason(err) != Rejected || strings.Contains(err.Error(), "hunter") || !strings.Contains(err.Error(), "data[tls.key]") {
		t.Error(err)
	}
	c = newCluster(t)
	c.after = func(_ string, s *corev1.Secret) { s.Data["a"] = []byte("changed") }
	if _, err := c.writer().Apply(t.Context(), c.add("db", nil), result(map[string]string{"a": value})); reason(err) != Rejected {
		t.Error("a mutating webhook", err)
	}
}
