package webhook

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"

	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/review"
)

// The reasons of events.
const (
	eventConfigReloaded = "ConfigReloaded"
	eventConfigRejected = "ConfigRejected"
	eventInjected       = "Injected"
	eventDenied         = "InjectionDenied"
)

// maxEventMessage is the longest message that the API takes, in bytes.
const maxEventMessage = 1024

// events tells of decisions where people look for reasons: kubectl describe. It never holds up what it tells of: messages are
// queued, equal ones counted, too many dropped.
type events struct {
	recorder record.EventRecorder
	metadata metadata
	own      types.NamespacedName // the ConfigMap of the operator's document; without a name there is none
	log      logr.Logger
}

// newEvents sends until ctx ends.
func newEvents(ctx context.Context, config *rest.Config, m metadata, own types.NamespacedName, log logr.Logger) (*events, error) {
	client, err := typedcorev1.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("send events: %w", err)
	}
	broadcaster := record.NewBroadcaster(record.WithContext(logr.NewContext(ctx, log)))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.Events("")})
	context.AfterFunc(ctx, broadcaster.Shutdown)
	recorder := broadcaster.NewRecorder(runtime.NewScheme(), corev1.EventSource{Component: "kms-webhook"})
	return &events{recorder: recorder, metadata: m, own: own, log: log}, nil
}

// reloaded tells of a change of the operator's document, with what is wrong with it.
func (e *events) reloaded(ctx context.Context, wrong error) {
	if e.own.Name == "" || e.own.Namespace == "" {
		return
	}
	about, err := e.metadata.fromServer(ctx, configMapKind, e.own)
	if err != nil || about == nil {
		e.log.Info("No event about the operator's configuration: its ConfigMap was not found", "configMap", e.own, "error", err)
		return
	}
	ref := &corev1.ObjectReference{APIVersion: "v1", Kind: configMapKind.Kind, Namespace: e.own.Namespace, Name: e.own.Name, UID: about.UID}
	if wrong != nil {
		e.recorder.Event(ref, corev1.EventTypeWarning, eventConfigRejected, message("The last good configuration stays in force: "+wrong.Error()))
		return
	}
	e.recorder.Event(ref, corev1.EventTypeNormal, eventConfigReloaded, "The configuration is in force for pods that are created from now on")
}

// pod tells the controller that a pod belongs to what became of it. A pod of nobody's has whoever made it, who has been told; it
// has no uid yet, by which an event could name it.
func (e *events) pod(req *review.Request[injector.Pod], v review.Verdict) {
	i := slices.IndexFunc(req.Object.Metadata.Owners, func(o injector.Owner) bool { return o.Controller })
	if req.DryRun || i < 0 {
		return
	}
	// Copies: what was read of a review is a part of its text, and an event that waits to be sent would keep all of it.
	owner := req.Object.Metadata.Owners[i]
	ref := &corev1.ObjectReference{
		APIVersion: strings.Clone(owner.APIVersion), Kind: strings.Clone(owner.Kind), Namespace: strings.Clone(req.Namespace),
		Name: strings.Clone(owner.Name), UID: types.UID(strings.Clone(owner.UID)),
	}
	switch {
	case v.Result == review.Denied:
		e.recorder.Event(ref, corev1.EventTypeWarning, eventDenied, message("A pod was refused: "+review.OneLine(v.Err.Error())))
	case v.Result == review.Injected && v.Reason == reasonNew:
		e.recorder.Event(ref, corev1.EventTypeNormal, eventInjected, message(injectedAs(v.Audit)))
	}
}

// injectedAs does not tell one pod from another, so that a hundred equal replicas are one event that was seen a hundred times.
func injectedAs(audit map[string]string) string {
	text := "A pod was given the agent, with identity " + audit["identity"]
	if role := audit["role"]; role != "" {
		text += " as " + role
	}
	if secrets := audit["secrets"]; secrets != "" {
		text += ", for " + strings.ReplaceAll(secrets, ",", ", ")
	}
	return text
}

// message is a text of at most the length that an event's may have.
func message(text string) string {
	const more = " …"
	if len(text) <= maxEventMessage {
		return text
	}
	end := maxEventMessage - len(more)
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + more
}
