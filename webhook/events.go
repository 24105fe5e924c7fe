package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/review"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/share"
)

// The reasons of events.
const (
	eventConfigReloaded = "ConfigReloaded"
	eventConfigRejected = "ConfigRejected"
	eventInjected       = "Injected"
	eventDenied         = "InjectionDenied"
)

// The rate of events about the pods of a namespace, so that one namespace does not fill the queue for all.
const (
	eventsPerSecond = 1
	eventsAtOnce    = 25
)

// The rate and the burst at which events are sent.
const (
	sentPerSecond = 20
	sentAtOnce    = 50
)

// maxEventMessage is the longest message that the API takes, in bytes.
const maxEventMessage = 1024

// events reports decisions where people look for reasons: kubectl describe. It never delays a decision: messages are queued, equal
// ones counted, too many dropped. Every caller of the webhook can cause events, in the webhook's name and in namespaces that have opted
// in. So events contain names of annotations, secrets and roles, and no free text.
type events struct {
	rate     *share.Rate // by namespace
	recorder record.EventRecorder
	metadata metadata
	own      types.NamespacedName // the ConfigMap of the webhook's configuration; without a name there is none
	log      logr.Logger
}

// newEvents sends until ctx ends.
func newEvents(ctx context.Context, config *rest.Config, m metadata, own types.NamespacedName, log logr.Logger) (*events, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = sentPerSecond, sentAtOnce
	client, err := typedcorev1.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("send events: %w", err)
	}
	broadcaster := record.NewBroadcaster(record.WithContext(logr.NewContext(ctx, log)))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.Events("")})
	context.AfterFunc(ctx, broadcaster.Shutdown)
	recorder := broadcaster.NewRecorder(runtime.NewScheme(), corev1.EventSource{Component: "kms-webhook"})
	return &events{rate: share.NewRate(eventsPerSecond, eventsAtOnce), recorder: recorder, metadata: m, own: own, log: log}, nil
}

// reloaded reports a change of the webhook's configuration, or the error in it.
func (e *events) reloaded(ctx context.Context, wrong error) {
	if e.own.Name == "" || e.own.Namespace == "" {
		return
	}
	about, err := e.metadata.fromServer(ctx, itself, configMapKind, e.own)
	if err != nil || about == nil {
		e.log.Info("No event about the webhook's configuration: its ConfigMap was not found", "configMap", e.own, "error", err)
		return
	}
	ref := &corev1.ObjectReference{APIVersion: "v1", Kind: configMapKind.Kind, Namespace: e.own.Namespace, Name: e.own.Name, UID: about.UID}
	if wrong != nil {
		e.recorder.Event(ref, corev1.EventTypeWarning, eventConfigRejected, message("The last good configuration stays in force: "+wrong.Error()))
		return
	}
	e.recorder.Event(ref, corev1.EventTypeNormal, eventConfigReloaded, "The configuration is in force for pods that are created from now on")
}

// pod reports the decision on a pod at the pod's controller. A pod without a controller gets no event: its creator has the answer of the
// API server, and the pod has no uid yet that an event could refer to.
func (e *events) pod(req *review.Request[injector.Pod], v review.Verdict) {
	i := slices.IndexFunc(req.Object.Metadata.Owners, func(o injector.Owner) bool { return o.Controller })
	if req.DryRun || i < 0 {
		return
	}
	var text string
	kind, reason := corev1.EventTypeNormal, eventInjected
	switch {
	case v.Result == review.Denied:
		kind, reason, text = corev1.EventTypeWarning, eventDenied, deniedFor(v)
	case v.Result == review.Injected && v.Reason == reasonNew:
		text = injectedAs(v.Audit)
	default:
		return
	}
	owner := req.Object.Metadata.Owners[i]
	ref := &corev1.ObjectReference{
		APIVersion: owner.APIVersion, Kind: owner.Kind, Namespace: req.Namespace, Name: owner.Name, UID: types.UID(owner.UID),
	}
	if named(ref) && e.rate.Allow(ref.Namespace) {
		e.recorder.Event(ref, kind, reason, message(text))
	}
}

// objectKind and objectVersion are a kind and an API version as Kubernetes has them.
var (
	objectKind    = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,62}$`)
	objectVersion = regexp.MustCompile(`^([a-z0-9.-]{1,253}/)?v[a-z0-9]{1,62}$`)
	objectUID     = regexp.MustCompile(`^[A-Za-z0-9-]{1,128}$`)
)

// named reports whether there can be such an object: else a reference would be a text.
func named(ref *corev1.ObjectReference) bool {
	return objectKind.MatchString(ref.Kind) && objectVersion.MatchString(ref.APIVersion) && objectUID.MatchString(string(ref.UID)) &&
		len(validation.IsDNS1123Subdomain(ref.Name)) == 0
}

// annotationKey are the keys that a message names.
var annotationKey = regexp.MustCompile(`^` + regexp.QuoteMeta(podconfig.Prefix) + `[A-Za-z0-9._-]{1,63}$`)

// deniedFor names what has to be changed. How, the refusal says, which is in the events of the pod's creator.
func deniedFor(v review.Verdict) string {
	mistakes, _ := errors.AsType[config.Mistakes](v.Err)
	var keys []string
	for _, m := range mistakes {
		if annotationKey.MatchString(m.Where) && !slices.Contains(keys, m.Where) && len(keys) < maxKeys {
			keys = append(keys, m.Where)
		}
	}
	text := "A pod was refused: "
	switch {
	case len(keys) > 0:
		text += "look at " + strings.Join(keys, ", ")
	case v.Reason == string(injector.WithoutRole):
		text += "it has no RAM role that it may assume; look at the annotations of its ServiceAccount"
	default:
		text += "its spec or its annotations do not allow it"
	}
	return text + ". The whole reason is in the FailedCreate event of this object, and in the answer to kubectl create --dry-run=server"
}

// injectedAs does not tell one pod from another, so that a hundred equal replicas are one event that was seen a hundred times.
func injectedAs(audit map[string]string) string {
	text := "A pod was given the agent, with identity " + audit["identity"]
	if role := audit["role"]; role != "" {
		text += " as " + role
	}
	var secrets []string
	if json.Unmarshal([]byte(audit["secrets"]), &secrets) == nil {
		text += ", for " + strings.Join(secrets, ", ")
	}
	return text
}

// maxKeys is the most annotations that a message names.
const maxKeys = 10

// message returns a text on one line, without control and formatting characters, of at most the length that an event's may have.
func message(text string) string {
	text = review.OneLine(text)
	const more = " …"
	if len(text) <= maxEventMessage {
		return text
	}
	return strings.ToValidUTF8(text[:maxEventMessage-len(more)], "") + more
}
