package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/content"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/check"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/cluster"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rrsa"
)

// The links of the chain of an ExternalSecret, in its order. Store, Identity and Role are there once for each store.
const (
	Spec       = "spec"
	Controller = "controller"
	Store      = "store"
	Identity   = "identity"
	Calls      = "calls" // only if it is broken
	Trust      = "trust-policy"
	Permission = "permission"
	Name       = "name" // in KMS
	Template   = "template"
	Target     = "target" // who the Secret belongs to, and whether it can be written
	Secret     = "secret" // the Secret itself
)

// links are what the reasons of the condition Ready are about; docs/secret-sync.md says what they mean.
var links = map[string]string{
	"InvalidSpec": Spec, "StoreNotReady": Store, "NotTrusted": Trust, "Forbidden": Permission, "NotFound": Name, "InvalidContent": Template,
	"Throttled": Calls, "Unreachable": Calls, "NotOwned": Target, "Conflict": Target, "WriteFailed": Target, "TypeChanged": Target,
	"Immutable": Target, "DangerousType": Target, "SecretMissing": Target, "Rejected": Target,
}

var externalSecret = regexp.MustCompile(`(?i)^externalsecrets?(\.(v1alpha1\.)?alibabacloud\.com)?/([^/]+)$`)

// A chain is an ExternalSecret and what is known about it so far.
type chain struct {
	Doctor
	Report
	es    *v1alpha1.ExternalSecret
	ready *metav1.Condition // of the spec as it is; nil: kms-sync has not looked at it
}

func (d Doctor) externalSecret(ctx context.Context, namespace, name string, now time.Time) (Report, error) {
	es, err := d.Client.ExternalSecret(ctx, namespace, name)
	if apierrors.IsNotFound(err) {
		return Report{}, fmt.Errorf("there is no ExternalSecret %s of kms-sync in namespace %s", name, namespace)
	} else if err != nil {
		return Report{}, err
	}
	e := &chain{Doctor: d, Report: Report{Subject: "ExternalSecret " + namespace + "/" + name}, es: es}
	if ready := meta.FindStatusCondition(es.Status.Conditions, v1alpha1.ConditionReady); ready != nil &&
		ready.ObservedGeneration == es.Generation {
		e.ready = ready
	}
	e.spec()
	e.controller(ctx, now)
	e.stores(ctx)
	e.outcome()
	e.secret(ctx)
	return e.Report, nil
}

// reason is that of a condition Ready that is not true; "" if it is true or not there.
func (e *chain) reason() string {
	if e.ready == nil || e.ready.Status == metav1.ConditionTrue {
		return ""
	}
	return e.ready.Reason
}

func (e *chain) broken(link string) bool {
	return slices.ContainsFunc(e.Checks, func(c Check) bool { return c.Link == link && c.State == Broken })
}

func (e *chain) spec() {
	var mistakes []string
	for _, m := range content.Check(e.es) {
		mistakes = append(mistakes, m.String())
	}
	switch {
	case len(mistakes) > 0:
		e.add(Spec, Broken, strings.Join(mistakes, "\n"), "correct the manifest; kubectl kms validate -f says the same before it is applied")
	case links[e.reason()] == Spec:
		e.add(Spec, Broken, e.ready.Message, "")
	default:
		e.add(Spec, Good, fmt.Sprintf("it is valid, and names %s", counted(len(content.Refs(e.es)), "secret")), "")
	}
}

func counted(n int, what string) string {
	if n == 1 {
		return "one " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// controller checks that kms-sync runs, that one of its replicas has the Lease, and that it has looked at the object.
func (e *chain) controller(ctx context.Context, now time.Time) {
	in, late := cmp.Or(e.Client.SyncNamespace, cluster.SyncDeployment), check.Late(e.es, now)
	deployment, err := e.Client.Kube.AppsV1().Deployments(in).Get(ctx, cluster.SyncDeployment, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		state, says := Unseen, fmt.Sprintf("there is no Deployment %s in namespace %s; if it is in another, say --sync-namespace",
			cluster.SyncDeployment, in)
		if late {
			state, says = Broken, says+"; nothing looks at the object"
		}
		e.add(Controller, state, says, "install kms-sync, or name its namespace")
		return
	}
	logs := fmt.Sprintf("kubectl -n %s logs deployment/%s", in, cluster.SyncDeployment)
	lease, unheld := e.Client.Kube.CoordinationV1().Leases(in).Get(ctx, cluster.SyncLease, metav1.GetOptions{})
	switch {
	case err != nil:
		e.add(Controller, Unseen, fmt.Sprintf("the Deployment %s/%s cannot be read: %v", in, cluster.SyncDeployment, err), "")
	case deployment.Status.AvailableReplicas == 0:
		e.add(Controller, Broken, fmt.Sprintf("no replica of the Deployment %s/%s is available", in, cluster.SyncDeployment),
			fmt.Sprintf("kubectl -n %s describe pods, and %s, say why", in, logs))
	case unheld != nil && !apierrors.IsNotFound(unheld):
		e.add(Controller, Unseen, fmt.Sprintf("the Lease %s/%s cannot be read: %v", in, cluster.SyncLease, unheld), "")
	case unheld != nil || !held(lease.Spec, now):
		e.add(Controller, Broken, fmt.Sprintf("no replica has the Lease %s/%s, so that none works", in, cluster.SyncLease), logs+" says why")
	case late && e.behind() == nil:
		e.add(Controller, Broken, "it runs, and has not looked at the object when it should have",
			"watchNamespaces or excludeNamespaces of its chart may leave the namespace out; else "+logs+" says why")
	default:
		holder, _, _ := strings.Cut(*lease.Spec.HolderIdentity, "_")
		e.add(Controller, Good, fmt.Sprintf("it runs; %s has the Lease", holder), "")
	}
}

func held(lease coordinationv1.LeaseSpec, now time.Time) bool {
	return lease.HolderIdentity != nil && *lease.HolderIdentity != "" && lease.RenewTime != nil && lease.LeaseDurationSeconds != nil &&
		now.Sub(lease.RenewTime.Time) <= time.Duration(*lease.LeaseDurationSeconds)*time.Second
}

// stores checks who reads, for each store that the object names, and for its annotation.
func (e *chain) stores(ctx context.Context) {
	if e.broken(Spec) {
		for _, link := range []string{Store, Identity, Role} {
			e.add(link, Unneeded, "not looked for: the spec comes first", "")
		}
		return
	}
	seen := map[v1alpha1.SecretStoreRef][]string{}
	var refs []v1alpha1.SecretStoreRef
	for _, ref := range content.Refs(e.es) {
		if seen[ref.Store] == nil {
			refs = append(refs, ref.Store)
		}
		seen[ref.Store] = append(seen[ref.Store], ref.Name)
	}
	for _, ref := range refs {
		e.store(ctx, ref, seen[ref], len(refs) == 1)
	}
	if links[e.reason()] == Store && !e.broken(Store) && !e.broken(Identity) && !e.broken(Role) {
		e.add(Store, Broken, e.ready.Message, "")
	}
}

// store checks one store. The policies are of the object if it is the only one.
func (e *chain) store(ctx context.Context, ref v1alpha1.SecretStoreRef, secrets []string, only bool) {
	if ref.Name == "" {
		e.add(Store, Unneeded, "the object names none", "")
		if account := e.es.Annotations[v1alpha1.AnnotationServiceAccount]; account != "" {
			e.account(ctx, e.es.Namespace, account, &v1alpha1.Auth{}, secrets, only)
			return
		}
		e.own("the object names neither a store nor a ServiceAccount")
		return
	}
	namespace, title := cmp.Or(ref.Namespace, e.es.Namespace), "SecretStore "
	if ref.Kind == content.KindClusterSecretStore {
		namespace, title = "", "ClusterSecretStore "
	}
	title += strings.TrimPrefix(namespace+"/"+ref.Name, "/")
	store, err := e.Client.Store(ctx, namespace, ref.Name)
	if err != nil {
		if apierrors.IsNotFound(err) {
			e.add(Store, Broken, title+" does not exist", "create it, or correct secretStoreRef")
		} else {
			e.add(Store, Unseen, title+" cannot be read: "+err.Error(), "")
		}
		e.add(Identity, Unneeded, "the store says it", "")
		e.add(Role, Unneeded, "the store says it", "")
		return
	}
	switch ready := meta.FindStatusCondition(store.Status.Conditions, v1alpha1.ConditionReady); {
	case ready == nil || ready.ObservedGeneration != store.Generation:
		e.add(Store, Unseen, title+" is there; kms-sync has not looked at it", "")
	case ready.Status == metav1.ConditionFalse && ready.Reason == e.reason() && links[ready.Reason] != Store:
		e.add(Store, Unneeded, title+" is not Ready, for the reason below", "")
	case ready.Status == metav1.ConditionFalse:
		e.add(Store, Broken, title+" is not Ready: "+ready.Message, "")
	case ready.Status == metav1.ConditionTrue:
		e.add(Store, Good, title+" is Ready: "+ready.Message, "")
	default:
		e.add(Store, Good, title+" is there", "")
	}
	kms := store.Spec.KMS
	switch {
	case kms != nil && kms.KMSAuth != nil && kms.KMSAuth.ServiceAccountRef != nil:
		of := kms.KMSAuth.ServiceAccountRef
		e.account(ctx, cmp.Or(of.Namespace, namespace, e.es.Namespace), of.Name, kms.KMSAuth, secrets, only)
	case kms != nil && kms.DedicatedKMSAuth != nil:
		e.other("a client key, in Secrets that are not read here")
	case kms != nil && kms.KMSAuth != nil && kms.KMSAuth.AccessKey != nil && kms.KMSAuth.OIDCProviderARN == "":
		e.other("an access key, in Secrets that are not read here")
	default:
		e.own("the store names no ServiceAccount")
	}
}

// own is for what kms-sync reads as itself.
func (e *chain) own(because string) {
	e.other("kms-sync's own: " + because)
}

// other is for identities that are no ServiceAccount's.
func (e *chain) other(identity string) {
	e.add(Identity, Unneeded, identity, "")
	e.add(Role, Unneeded, "no ServiceAccount's", "")
}

// account checks a ServiceAccount and its role.
func (e *chain) account(ctx context.Context, namespace, name string, auth *v1alpha1.Auth, secrets []string, only bool) {
	title := "ServiceAccount " + namespace + "/" + name
	annotations, err := e.Client.ServiceAccountAnnotations(ctx, namespace, name, true)
	switch {
	case errors.Is(err, config.ErrNotFound):
		e.add(Identity, Broken, title+" does not exist", "create it, with the annotation "+rrsa.RoleARNAnnotation)
	case err != nil:
		e.add(Identity, Unseen, err.Error(), "")
	}
	if err != nil {
		e.add(Role, Unneeded, "the ServiceAccount names it", "")
		return
	}
	e.add(Identity, Good, title+" reads them", "")
	role, err := rrsa.Role(rrsa.Named{}, rrsa.Policy{AccountID: e.Policy.AccountID, Roles: []string{"*"}},
		rrsa.ServiceAccount{Namespace: namespace, Name: name, Annotations: annotations, Use: "as which the secret is to be read"})
	if err != nil {
		e.add(Role, Broken, err.Error(), "")
		return
	}
	if auth.RemoteRAMRoleARN != "" {
		e.add(Role, Good, title+" assumes "+role+", and with it "+auth.RemoteRAMRoleARN, "")
		return
	}
	e.add(Role, Good, title+" assumes "+role, "")
	if only {
		issuer, _ := e.Client.Issuer(ctx) // else there is what stands for it
		e.RoleARN = role
		e.TrustPolicy = trustPolicy(cmp.Or(auth.OIDCProviderARN, e.Policy.OIDCProviderARN), cmp.Or(issuer, "<the cluster's issuer>"), namespace,
			name)
		e.PermissionPolicy = permissionPolicy(e.Policy.Region, accountOf(role), secrets)
	}
}

// outcome adds the links that only kms-sync sees, as the condition Ready says.
func (e *chain) outcome() {
	whole := []Check{
		{Link: Trust, Says: "STS accepts who reads"},
		{Link: Permission, Says: "KMS, the administrator and the stores allow it"},
		{Link: Name, Says: "KMS has what is named"},
		{Link: Template, Says: "the values are what the entries and the templates need"},
		{Link: Target, Says: "the Secret " + e.target() + " may be written"},
	}
	link, reason := links[e.reason()], e.reason()
	switch behind := e.behind(); {
	case link == Calls:
		e.add(Calls, Broken, e.ready.Message, "")
	case behind != nil:
		e.add(Calls, Broken, behind.Message, "read less often (rotationInterval), or have the administrator raise budget.kmsCallsPerSecond and "+
			"budget.stsCallsPerMinute of kms-sync's chart, within the account's quotas")
	}
	// Refusals before any call leave no time of the next one.
	called := reason == "" || e.es.Status.NextRefreshTime != nil
	reached := called && link != Calls && link != Spec && link != Store
	for _, c := range whole {
		switch {
		case e.ready == nil:
			e.add(c.Link, Unseen, "kms-sync has not looked at the object as it is now", "")
		case reason == "":
			e.add(c.Link, Good, c.Says, "")
		case c.Link == link || c.Link == Target && link == "": // a later kms-sync has more reasons
			e.add(c.Link, Broken, e.ready.Message, "")
			reached = false
		case reached:
			e.add(c.Link, Good, c.Says, "")
		default:
			e.add(c.Link, Unneeded, "not known: another link is broken", "")
		}
	}
}

// behind is kms-sync's word that a refresh is late although nothing failed; nil: it is not.
func (e *chain) behind() *metav1.Condition {
	if e.reason() != "" {
		return nil
	}
	return meta.FindStatusCondition(e.es.Status.Conditions, v1alpha1.ConditionStale)
}

// target is the name of the Secret.
func (e *chain) target() string {
	return cmp.Or(e.es.Spec.Target.Name, e.es.Name)
}

// vouched reports whether kms-sync, which watches the Secret, runs and says that it is as it should be.
func (e *chain) vouched() bool {
	runs := slices.ContainsFunc(e.Checks, func(c Check) bool { return c.Link == Controller && c.State == Good })
	return runs && e.ready != nil && e.reason() == ""
}

// lastRead says when KMS was.
func (e *chain) lastRead() string {
	if at := e.es.Status.RefreshTime; at != nil {
		return "; KMS was last read at " + at.UTC().Format(time.RFC3339)
	}
	return ""
}

// secret checks that the Secret is there and has the object's marks. Its values are not read. RBAC knows no right to the metadata alone:
// to a user who may not get the Secret, the word of a kms-sync that runs is enough.
func (e *chain) secret(ctx context.Context) {
	title, own := "the Secret "+e.es.Namespace+"/"+e.target(), e.es.Namespace+"/"+e.es.Name
	secret, err := e.Client.SecretMetadata(ctx, e.es.Namespace, e.target())
	absent := apierrors.IsNotFound(err)
	ours := err == nil && secret.Annotations[v1alpha1.AnnotationOwner] == own
	for name, value := range secret.Annotations {
		ours = ours || err == nil && strings.HasPrefix(name, v1alpha1.AnnotationKeysPrefix) && strings.HasPrefix(value, own+":")
	}
	switch {
	case absent && e.Broken():
		e.add(Secret, Unneeded, title+" does not exist yet", "")
	case absent:
		e.add(Secret, Broken, title+" does not exist, though nothing else is broken", "if it was deleted just now, kms-sync makes it again")
	case apierrors.IsForbidden(err) && e.vouched():
		e.add(Secret, Unneeded, title+" is not looked at, which takes the right to get it; kms-sync, which watches it, says that it is as it "+
			"should be"+e.lastRead(), "")
	case err != nil:
		e.add(Secret, Unseen, title+" cannot be read: "+err.Error(), "")
	case !ours && e.broken(Target):
		e.add(Secret, Unneeded, title+" is there, and is not the object's", "")
	case !ours:
		e.add(Secret, Broken, title+" is there, and does not have the annotations by which it would be the object's",
			"annotate the Secret with "+v1alpha1.AnnotationAdopt+"=true to hand it over, or choose another target.name")
	default:
		e.add(Secret, Good, title+" is there, and the object's"+e.lastRead(), "")
	}
}
