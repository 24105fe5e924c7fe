package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

// A kubelet runs the agent's containers as processes.
type kubelet struct {
	agent string // its program
	dir   string // folder of the volumes
	kind  string // what the folder is
	cloud *cloud
}

// A pod is one on this node.
type pod struct {
	corev1.Pod
	kubelet
	init, sidecar container

	running *exec.Cmd
	stderr  bytes.Buffer
}

type container struct{ corev1.Container }

// String returns the command line.
func (c container) String() string { return strings.Join(append(c.Command, c.Args...), " ") }

// pod makes the volumes of an injected pod.
func (k kubelet) pod(name string, document []byte) (*pod, error) {
	p := &pod{kubelet: k}
	if err := json.Unmarshal(document, &p.Pod); err != nil {
		return nil, err
	}
	p.Name, p.dir = name, filepath.Join(k.dir, name)
	for _, c := range p.Spec.InitContainers {
		switch c.Name {
		case agentconfig.InitContainerName:
			p.init = container{c}
		case agentconfig.ContainerName:
			p.sidecar = container{c}
		}
	}
	for _, v := range p.Spec.Volumes {
		dir := filepath.Join(p.dir, v.Name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		if v.Projected == nil {
			continue
		}
		for _, source := range v.Projected.Sources {
			if err := p.project(source.ServiceAccountToken, dir); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

// project writes a token of the pod's ServiceAccount.
func (p *pod) project(source *corev1.ServiceAccountTokenProjection, dir string) error {
	if source == nil {
		return errors.New("a projected volume has something else than a token")
	}
	account := p.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	token, err := p.cloud.issuer.Token("system:serviceaccount:"+namespace+":"+account, func(c *jwt.Claims) {
		c.Audience = jwt.Audience{source.Audience}
		c.Expiry = jwt.NewNumericDate(time.Now().Add(time.Duration(*source.ExpirationSeconds) * time.Second))
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, source.Path), []byte(token), 0o600)
}

// An initError is the end of an init container that failed.
type initError struct{ message string }

func (e *initError) Error() string { return e.message }

func (p *pod) runInit(ctx context.Context) error {
	cmd, err := p.command(ctx, p.init)
	if err != nil {
		return err
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	var last struct{ Error string }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Error == "" {
		return fmt.Errorf("kms-agent-init: %w\n%s", exit, out)
	}
	return &initError{last.Error}
}

func (p *pod) startSidecar(ctx context.Context) (err error) {
	if p.running, err = p.command(ctx, p.sidecar); err != nil {
		return err
	}
	p.running.Stderr = &p.stderr
	return p.running.Start()
}

// stop ends the sidecar.
func (p *pod) stop() {
	if p.running == nil || p.running.Process == nil {
		return
	}
	_ = p.running.Process.Signal(syscall.SIGTERM)
	_ = p.running.Wait()
	p.running = nil
}

// log stops the sidecar and returns what it logged.
func (p *pod) log() string {
	p.stop()
	return p.stderr.String()
}

// command returns the process of a container.
func (p *pod) command(ctx context.Context, c container) (*exec.Cmd, error) {
	if len(c.Command) != 1 || c.Command[0] != "/kms-agent" {
		return nil, fmt.Errorf("container %s runs %q, and not the agent", c.Name, c.Command)
	}
	cmd := exec.CommandContext(ctx, p.agent, c.Args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = []string{} // and not this process' own
	for _, e := range c.Env {
		value, err := p.value(c, e)
		if err != nil {
			return nil, fmt.Errorf("container %s: %s: %w", c.Name, e.Name, err)
		}
		cmd.Env = append(cmd.Env, e.Name+"="+value)
	}
	return cmd, nil
}

func (p *pod) value(c container, e corev1.EnvVar) (string, error) {
	switch from := e.ValueFrom; {
	case e.Name == agentconfig.Env:
		return p.agentConfig(c, e.Value)
	case from == nil:
		return p.here(c, e.Value), nil
	case from.FieldRef != nil && from.FieldRef.FieldPath == "metadata.name":
		return p.Name, nil
	case from.ResourceFieldRef != nil && from.ResourceFieldRef.Resource == "limits.memory":
		return strconv.FormatInt(c.Resources.Limits.Memory().Value(), 10), nil
	}
	return "", errors.New("is from elsewhere than this kubelet knows")
}

func (p *pod) agentConfig(c container, document string) (string, error) {
	doc, err := agentconfig.Read([]byte(document))
	if err != nil {
		return "", err
	}
	doc.SecretsDir, doc.StateDir, doc.KMS.Host = p.here(c, doc.SecretsDir), p.here(c, doc.StateDir), p.here(c, doc.KMS.Host)
	doc.RefreshInterval = config.Duration(time.Second)
	text, err := json.Marshal(doc)
	return string(text), err
}

// here is what a path or host in a container is on this machine.
func (p *pod) here(c container, value string) string {
	if strings.HasSuffix(value, ".aliyuncs.com") {
		return p.cloud.addr
	}
	for _, m := range c.VolumeMounts {
		if rest, below := strings.CutPrefix(value, m.MountPath); below && (rest == "" || rest[0] == '/') {
			return filepath.Join(p.dir, m.Name) + rest
		}
	}
	return value
}
