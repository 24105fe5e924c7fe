package injected

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/kms-agent-injector/kms-agent-injector/agent/inventory"
)

// How long an agent may take to answer. Without a probe it reads what it has written down, so that what takes longer is the way to
// its node, on which there may be a hundred more; with one it waits for STS and KMS itself.
const (
	answerLimit = 10 * time.Second
	probeLimit  = 40 * time.Second
)

// An Asker runs the agents' own status command in their containers, as kubectl exec does.
type Asker struct {
	Kube kubernetes.Interface
	REST *rest.Config
}

// Ask returns what the pod's agent holds. With probe it has STS and KMS asked now, and their refusals are the Problems.
func (a Asker) Ask(ctx context.Context, p Pod, probe bool) (inventory.Status, error) {
	container, ok := p.running()
	if !ok {
		return inventory.Status{}, ErrSilent
	}
	command, limit := append(slices.Clone(container.Command), "status"), answerLimit
	if probe {
		command, limit = append(command, "--probe"), probeLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var out, errs bytes.Buffer
	switch err := a.exec(ctx, p, container.Name, command, &out, &errs); {
	case err == nil:
	case strings.Contains(err.Error(), `cannot create resource "pods/exec"`): // the status is lost in the upgrade of the connection
		return inventory.Status{}, fmt.Errorf("the agent cannot be asked: you have not the right to create pods/exec in namespace %s", p.Namespace)
	default:
		return inventory.Status{}, fmt.Errorf("exec %s in pod %s/%s: %w %s", strings.Join(command, " "), p.Namespace, p.Name, err, strings.TrimSpace(errs.String()))
	}
	var held inventory.Status
	if err := json.Unmarshal(out.Bytes(), &held); err != nil {
		return inventory.Status{}, fmt.Errorf("pod %s/%s: its agent is older than this plugin and cannot say what it holds", p.Namespace, p.Name)
	}
	return held, nil
}

// running is the sidecar, or the init container that still tries.
func (p Pod) running() (corev1.Container, bool) {
	for _, c := range slices.Backward(p.containers) {
		if s, _ := p.Status(c.Name); s.State.Running != nil {
			return c, true
		}
	}
	return corev1.Container{}, false
}

func (a Asker) exec(ctx context.Context, p Pod, container string, command []string, out, errs *bytes.Buffer) error {
	url := a.Kube.CoreV1().RESTClient().Post().Resource("pods").Namespace(p.Namespace).Name(p.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: container, Command: command, Stdout: true, Stderr: true}, scheme.ParameterCodec).URL()
	websocket, err := remotecommand.NewWebSocketExecutor(a.REST, http.MethodGet, url.String())
	if err != nil {
		return err
	}
	spdy, err := remotecommand.NewSPDYExecutor(a.REST, http.MethodPost, url)
	if err != nil {
		return err
	}
	executor, err := remotecommand.NewFallbackExecutor(websocket, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	if err != nil {
		return err
	}
	return executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: out, Stderr: errs})
}
