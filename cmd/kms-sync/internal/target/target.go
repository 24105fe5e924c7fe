// Package target writes the Secret of an ExternalSecret, and is the only package of kms-sync that writes Secrets.
//
// What is not an ExternalSecret's own is never changed: neither a Secret, nor a key, nor one that another ExternalSecret made. The rules:
//
//   - A Secret is an ExternalSecret's own if an annotation of the Secret says so; a key is its own if a second annotation lists it.
//     A user who may write the Secret may write them. Labels and fields of the ExternalSecret prove nothing.
//   - A Secret without these annotations is adopted if ack-secret-manager made it for this ExternalSecret (see originals), or if it has
//     the annotation kms.alibabacloud.com/adopt: "true" itself. On the ExternalSecret the annotation would let every user who may
//     create ExternalSecrets overwrite any Secret of the namespace.
//   - A living claim is never taken over. Where there is no Secret yet, or one to adopt, the older of two ExternalSecrets gets it.
//   - Every write has the resourceVersion that the decision is about; what has changed in between is decided again.
//   - Equal is not written.
package target

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/content"
)

// Writer writes Secrets. Its methods may be called concurrently.
type Writer struct {
	// Client writes.
	Client client.Client
	// Cached reads ExternalSecrets, and the metadata of labelled Secrets: the manager's cache. The manager's client is not, because what it
	// reads of Secrets it reads from the API server.
	Cached client.Reader
	// Live reads Secrets, and the metadata of namespaces and of the custom resource definition, from the API server.
	Live client.Reader

	mu      sync.Mutex
	written map[client.ObjectKey]record
}

// Outcome is what has become of a Secret.
type Outcome struct {
	SecretName      string
	ResourceVersion string
	Action          Action
}

// Action says what a call did.
type Action string

// The actions.
const (
	Created   Action = "Created"
	Updated   Action = "Updated"
	Unchanged Action = "Unchanged"
	Adopted   Action = "Adopted"
	Deleted   Action = "Deleted"
)

// Reasons of refusals.
const (
	NotOwned      = "NotOwned"      // the Secret, or a key of it, is not the ExternalSecret's
	Conflict      = "Conflict"      // it is another ExternalSecret's
	DangerousType = "DangerousType" // Kubernetes, or kms-sync, would give the Secret powers that its author may not have
	TypeChanged   = "TypeChanged"   // Kubernetes keeps a Secret's type
	Immutable     = "Immutable"     // Kubernetes keeps an immutable Secret's data
	Missing       = "SecretMissing" // creationPolicy Merge without a Secret
	InvalidSpec   = "InvalidSpec"   // policies that contradict each other
	Rejected      = "Rejected"      // the API server refuses the Secret
)

// Refused is an error that stays until something is changed. Its message says what.
type Refused struct{ Reason, Message string }

func (r *Refused) Error() string { return r.Message }

func refuse(reason, format string, args ...any) *Refused {
	return &Refused{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// Name returns the name of an ExternalSecret's Secret.
func Name(es *v1alpha1.ExternalSecret) string {
	if es.Spec.Target.Name != "" {
		return es.Spec.Target.Name
	}
	return es.Name
}

func creation(es *v1alpha1.ExternalSecret) v1alpha1.Policy {
	if p := es.Spec.Target.CreationPolicy; p != "" {
		return p
	}
	return v1alpha1.CreateOwner
}

// attempts is how often a Secret that changes meanwhile is read again before the reconciler's queue takes over.
const attempts = 4

// Apply makes the Secret have the keys of r. It writes nothing if that is so. After it, Secrets of the same ExternalSecret with other
// names, which it had before target.name changed, are released.
func (w *Writer) Apply(ctx context.Context, es *v1alpha1.ExternalSecret, r content.Result) (Outcome, error) {
	if err := check(es, r); err != nil {
		return Outcome{}, err
	}
	if len(r.Data) == 0 {
		return Outcome{}, refuse(InvalidSpec, "nothing to write: no entry gives a key; the Secret %s stays as it is", Name(es))
	}
	out, err := w.apply(ctx, es, r)
	if err == nil && es.Status.SecretName != out.SecretName {
		err = w.releaseAll(ctx, es, out.SecretName)
	}
	return out, err
}

// May refuses what Apply would refuse whatever is read, so that KMS is not asked for it. It makes no request: the State has the Secret, or
// says that it is as Apply wrote it.
func (w *Writer) May(ctx context.Context, es *v1alpha1.ExternalSecret, s State) error {
	if err := check(es, content.Result{}); err != nil {
		return err
	}
	var err error
	switch live := s.live; {
	case s.Exists && live == nil:
	case live == nil && creation(es) == v1alpha1.CreateMerge:
		err = missing(es)
	case live == nil:
		err = w.older(ctx, es)
	default:
		_, err = w.claim(ctx, es, live, nil)
	}
	return explain(err, "look at", Name(es))
}

func missing(es *v1alpha1.ExternalSecret) error {
	return refuse(Missing, "the Secret %s does not exist, and creationPolicy Merge adds keys to one that does: create it, or set "+
		"creationPolicy Owner", Name(es))
}

func (w *Writer) apply(ctx context.Context, es *v1alpha1.ExternalSecret, r content.Result) (out Outcome, err error) {
	for range attempts {
		if out, err = w.try(ctx, es, r); !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsNotFound(err) {
			break
		}
	}
	return out, explain(err, "write", Name(es))
}

// try decides about the Secret as it is now, and writes.
func (w *Writer) try(ctx context.Context, es *v1alpha1.ExternalSecret, r content.Result) (Outcome, error) {
	live, err := w.get(ctx, es.Namespace, Name(es))
	if err != nil {
		return Outcome{}, err
	}
	if live == nil {
		return w.create(ctx, es, r)
	}
	if live.DeletionTimestamp != nil {
		return Outcome{}, fmt.Errorf("the Secret %s is being deleted: its finalizers %q keep it; it is written anew when it is gone", live.Name,
			live.Finalizers)
	}
	c, err := w.claim(ctx, es, live, slices.Collect(maps.Keys(r.Data)))
	if err != nil {
		return Outcome{}, err
	}
	if creation(es) == v1alpha1.CreateMerge && explicitType(es) == "" || r.Type == "" {
		r.Type = live.Type
	}
	if r.Type != live.Type {
		return w.recreate(ctx, es, r, live, c)
	}
	if live.Immutable != nil && *live.Immutable && !c.same(live, r.Data) {
		return Outcome{}, refuse(Immutable, "the Secret %s is immutable and has other data than the ExternalSecret gives it now: delete the "+
			"Secret, and it is made anew, or set another target.name", live.Name)
	}
	return w.update(ctx, es, r, live, c)
}

// get returns a Secret, nil if there is none.
func (w *Writer) get(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	var s corev1.Secret
	err := w.Live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &s)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return &s, err
}

// errGone has a Secret that was deleted while it was written be written anew.
var errGone = apierrors.NewNotFound(corev1.Resource("secrets"), "")

// create makes a Secret that does not exist. It is no server-side apply, which would merge into one that a stranger makes meanwhile.
func (w *Writer) create(ctx context.Context, es *v1alpha1.ExternalSecret, r content.Result) (Outcome, error) {
	if creation(es) == v1alpha1.CreateMerge {
		return Outcome{}, missing(es)
	}
	if err := w.older(ctx, es); err != nil {
		return Outcome{}, err
	}
	labels, annotations := marks(es, r)
	s := &corev1.Secret{Type: r.Type, Data: maps.Clone(r.Data)} // the answer is decoded into it
	s.Namespace, s.Name, s.Labels, s.Annotations = es.Namespace, Name(es), labels, annotations
	if es.Spec.Target.Immutable {
		s.Immutable = new(true)
	}
	if err := w.Client.Create(ctx, s, client.FieldOwner(Manager(es))); err != nil {
		return Outcome{}, err
	}
	return w.done(es, r, s, Created)
}

// update applies the keys to a Secret that exists.
func (w *Writer) update(ctx context.Context, es *v1alpha1.ExternalSecret, r content.Result, live *corev1.Secret, c claim) (Outcome, error) {
	labels, annotations := marks(es, r)
	held := fieldsOf(live, Manager(es))
	stale := stale{labels: minus(held.labels, labels), annotations: minus(held.annotations, annotations)}
	stale.keys = slices.DeleteFunc(slices.Clone(c.keys), func(k string) bool {
		_, wanted := r.Data[k]
		_, present := live.Data[k]
		return wanted || !present
	})
	immutable := live.Immutable != nil && *live.Immutable
	wants := immutable || es.Spec.Target.Immutable && len(r.Data) > 0
	if !c.adopts && stale.none() && wants == immutable && contains(live.Labels, labels) && contains(live.Annotations, annotations) &&
		includes(live.Data, r.Data) {
		return w.done(es, r, live, Unchanged)
	}
	if len(r.Data) == 0 {
		// An apply without data gives up the map itself, and empties what others have in it.
		patch := removal(live, stale.keys, stale.labels, stale.annotations).
			with("replace", annotationPath(keysAnnotation(es)), keysValue(es, nil))
		if err := w.Client.Patch(ctx, live, patch.raw(), client.FieldOwner(Manager(es))); err != nil {
			return Outcome{}, err
		}
		return w.done(es, r, live, Updated)
	}
	entries, err := takeOver(live, es, c.original)
	if err != nil {
		return Outcome{}, err
	}
	if entries != nil {
		if err := w.Client.Patch(ctx, live, client.RawPatch(jsonPatch, entries)); err != nil {
			return Outcome{}, err
		}
	}
	// A key that another field manager holds too, after a restore for instance, outlives an apply without it. It stays listed till it is
	// removed, or a restart in between would make it a stranger's.
	others := heldByOthers(live, Manager(es), stale.keys)
	annotations[keysAnnotation(es)] = keysValue(es, append(slices.Collect(maps.Keys(r.Data)), others...))
	ac := corev1ac.Secret(live.Name, live.Namespace).WithUID(live.UID).WithResourceVersion(live.ResourceVersion).
		WithLabels(labels).WithAnnotations(annotations).WithData(r.Data).
		WithType(live.Type) // always: without it the API server takes Opaque, unless another manager has set the type
	if wants && (immutable || len(others) == 0) { // else it is when they are removed
		ac.WithImmutable(true)
	}
	if err := w.Client.Apply(ctx, ac, client.FieldOwner(Manager(es)), client.ForceOwnership); err != nil {
		return Outcome{}, err
	}
	after, err := w.get(ctx, live.Namespace, live.Name) // the answer to an apply has no managedFields
	if err != nil || after == nil {
		return Outcome{}, cmp.Or(err, error(errGone))
	}
	if len(others) > 0 {
		keys := keysValue(es, slices.Collect(maps.Keys(r.Data)))
		patch := removal(after, others, nil, nil).with("replace", annotationPath(keysAnnotation(es)), keys)
		if wants {
			patch = patch.with("add", "/immutable", true)
		}
		if err := w.Client.Patch(ctx, after, patch.raw(), client.FieldOwner(Manager(es))); err != nil {
			return Outcome{}, err
		}
	}
	action := Updated
	if c.adopts {
		action = Adopted
	}
	return w.done(es, r, after, action)
}

// recreate replaces a Secret by one of another type, which Kubernetes does not change, if the Secret itself has the annotation that
// agrees.
func (w *Writer) recreate(ctx context.Context, es *v1alpha1.ExternalSecret, r content.Result, live *corev1.Secret, c claim) (Outcome,
	error) {
	if !c.owner || c.adopts || len(c.foreign(live)) > 0 {
		return Outcome{}, refuse(TypeChanged, "the Secret %s is of type %s, and Kubernetes does not change it to %s: set this type, or another "+
			"target.name", live.Name, live.Type, r.Type)
	}
	if live.Annotations[AnnotationRecreate] != "true" {
		return Outcome{}, refuse(TypeChanged, "the Secret %s is of type %s, and Kubernetes does not change it to %s: delete the Secret, or "+
			"annotate it with %s=true, to have it made anew; it is missing for a moment", live.Name, live.Type, r.Type, AnnotationRecreate)
	}
	if err := w.delete(ctx, live); err != nil {
		return Outcome{}, err
	}
	return w.create(ctx, es, r)
}

// done looks at the Secret as the API server has it.
func (w *Writer) done(es *v1alpha1.ExternalSecret, r content.Result, s *corev1.Secret, action Action) (Outcome, error) {
	for _, k := range slices.Sorted(maps.Keys(r.Data)) {
		if got, ok := s.Data[k]; !ok || string(got) != string(r.Data[k]) {
			return Outcome{}, refuse(Rejected, "the API server stored another value of the key %s of the Secret %s than it was sent: a mutating "+
				"admission webhook changes it; exclude Secrets with the label %s from it", k, s.Name, LabelSynced)
		}
	}
	w.remember(es, s)
	return Outcome{SecretName: s.Name, ResourceVersion: s.ResourceVersion, Action: action}, nil
}

// told is what the API server itself says of a refusal: who refuses, and no word of a webhook or of a policy's expression.
var told = regexp.MustCompile(`^(?:Internal error occurred: |secrets (?:"[^"]*" )?is forbidden: )?(` +
	`admission webhook "[a-z0-9.-]+" denied the request|failed calling webhook "[a-z0-9.-]+"|` +
	`ValidatingAdmissionPolicy '[a-z0-9.-]+' with binding '[a-z0-9.-]+' denied request|` +
	`User "[a-z0-9:.-]+" cannot [a-z]+ resource "secrets"|exceeded quota: [a-z0-9.-]+|` +
	`unable to create new content in namespace [a-z0-9-]+ because it is being terminated)`)

// explain says what failed, without any value of the Secret: API servers, webhooks and policies quote what they refuse, in any form. So
// it takes the status code, and no text but what told allows.
func explain(err error, verb, name string) error {
	var refused *Refused
	if err == nil || errors.As(err, &refused) {
		return err
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return fmt.Errorf("%s the Secret %s: %w", verb, name, err)
	}
	s := status.Status()
	by := told.FindStringSubmatch(s.Message)
	if apierrors.IsInvalid(err) && by == nil { // else the fields are a webhook's words, too
		var fields []string
		if s.Details != nil {
			for _, c := range s.Details.Causes {
				if c.Field != "" { // else it is a policy's
					fields = append(fields, fmt.Sprintf("%s (%s)", c.Field, c.Type))
				}
			}
		}
		return refuse(Rejected, "the API server refuses the Secret %s as invalid: %s", name, strings.Join(fields, ", "))
	}
	why := fmt.Sprintf("the API server answers %d %s", s.Code, http.StatusText(int(s.Code)))
	if by != nil {
		why += ", " + by[1]
	}
	why += "; the rest of the answer may quote a value and is left out"
	if apierrors.IsInvalid(err) {
		return refuse(Rejected, "%s the Secret %s: %s", verb, name, why)
	}
	return fmt.Errorf("%s the Secret %s: %s", verb, name, why)
}
