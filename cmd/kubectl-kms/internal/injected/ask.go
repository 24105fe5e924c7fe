package injected

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"

	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
)

// How long an agent may take to answer. Without a probe it reads what it has written down, so that what takes longer is the way to
// its node, on which there may be a hundred more; with one it waits for STS and KMS itself.
const (
	answerLimit = 5 * time.Second
	probeLimit  = 40 * time.Second
)

// The limit on an agent's output. The rest is cut off, since any program may run in a container of the agent's name.
const (
	mostSaid     = 1 << 20 // of its status
	mostComplain = 4 << 10 // of its errors
)

// program is the agent in its image. No other is run, with the rights of the user, in a container that only has its name.
const program = "/kms-agent"

// An Asker runs the agents' own status command in their containers, as kubectl exec does.
type Asker struct {
	Kube kubernetes.Interface
	REST *rest.Config

	limit time.Duration // for an answer; 0: as above
}

// Ask returns what the pod's agent holds. With probe it has STS and KMS asked now, and their refusals are the Problems.
func (a Asker) Ask(ctx context.Context, p Pod, probe bool) (status.Status, error) {
	container, ok := p.running()
	if !ok {
		return status.Status{}, ErrSilent
	}
	if !slices.Equal(container.Command, []string{program}) {
		return status.Status{}, fmt.Errorf("the agent cannot be asked: container %s runs %q and not %s, so that the webhook did not make it",
			container.Name, container.Command, program)
	}
	command, limit := []string{program, "status"}, answerLimit
	if probe {
		command, limit = append(command, "--probe"), probeLimit
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(a.limit, limit))
	defer cancel()
	out, errs := &bounded{most: mostSaid, full: cancel}, &bounded{most: mostComplain, full: func() {}}
	err := a.exec(ctx, p, container.Name, command, out, errs)
	said, cut := out.said()
	complaint, _ := errs.said()
	switch {
	case cut:
		return status.Status{}, fmt.Errorf("pod %s/%s: what container %s says is longer than %d bytes, and no agent's status",
			p.Namespace, p.Name, container.Name, mostSaid)
	case err == nil:
	case strings.Contains(err.Error(), `cannot create resource "pods/exec"`): // the status is lost in the upgrade of the connection
		return status.Status{}, fmt.Errorf("the agent cannot be asked: you are not allowed to create pods/exec in namespace %s", p.Namespace)
	case ctx.Err() != nil:
		return status.Status{}, fmt.Errorf("the agent did not answer within %s", cmp.Or(a.limit, limit))
	default:
		if text := strings.TrimSpace(string(complaint)); text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
		return status.Status{}, fmt.Errorf("exec %s in pod %s/%s: %w", strings.Join(command, " "), p.Namespace, p.Name, err)
	}
	var held status.Status
	if err := json.Unmarshal(said, &held); err != nil {
		return status.Status{}, fmt.Errorf("pod %s/%s: its agent is older than this plugin and cannot say what it holds", p.Namespace, p.Name)
	}
	return held, nil
}

// A bounded buffer takes no more than so many bytes, and says when there are more. A stream that has ended may still write to it:
// client-go does not wait for what copies.
type bounded struct {
	most int
	full func()

	mu   sync.Mutex
	text bytes.Buffer
	cut  bool
}

// said returns the output so far, and whether it was cut.
func (b *bounded) said() (text []byte, cut bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.text.Bytes()), b.cut
}

func (b *bounded) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := text[:min(len(text), b.most-b.text.Len())]
	b.text.Write(kept)
	if len(kept) < len(text) {
		b.cut = true
		b.full()
	}
	return len(text), nil
}

// running returns the sidecar, or the init container that still tries.
func (p Pod) running() (corev1.Container, bool) {
	for _, c := range slices.Backward(p.containers) {
		if s, _ := p.Status(c.Name); s.State.Running != nil {
			return c, true
		}
	}
	return corev1.Container{}, false
}

func (a Asker) exec(ctx context.Context, p Pod, container string, command []string, out, errs io.Writer) error {
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
		return !errors.As(err, new(exec.CodeExitError)) && ctx.Err() == nil // else the command has run
	})
	if err != nil {
		return err
	}
	quiet := logr.NewContext(ctx, logr.Discard()) // the error says it
	return executor.StreamWithContext(quiet, remotecommand.StreamOptions{Stdout: out, Stderr: errs})
}
