package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/command"
)

const (
	secret           = "shop/prod/db"
	webManifest      = "test/demo/web.yaml"
	strangerManifest = "test/demo/stranger.yaml"
	// followLimit is how long a file may take to follow a rotation, on the busiest machine.
	followLimit = time.Minute
)

// A story is told on the screen, as cluster.sh tells it.
type story struct {
	out     io.Writer
	begun   time.Time
	kubelet kubelet
	webhook webhook

	first, second string // the secret's values
	template      []byte // of the Deployment's pods
	web           *pod
}

func newStory(k kubelet, out io.Writer) *story {
	return &story{
		out: out, begun: time.Now(), kubelet: k,
		first: fmt.Sprintf("first-%d", rand.IntN(1e9)), second: fmt.Sprintf("second-%d", rand.IntN(1e9)),
	}
}

func (s *story) tell(ctx context.Context) error {
	defer func() {
		if s.web != nil {
			s.web.stop()
		}
	}()
	for _, chapter := range []struct {
		title string
		tell  func(context.Context) error
	}{
		{"No cluster, but the webhook's decision, the agent, and an emulator of STS and KMS that checks what the cloud checks", s.prepare},
		{"Create a secret in KMS", s.create},
		{"A plain Deployment with two annotations; the RAM role shop trusts its ServiceAccount", s.inject},
		{"The init container writes the secret to a file; then the sidecar starts", s.start},
		{"The secret is rotated in KMS; the file follows", s.rotate},
		{"Another ServiceAccount may not read it: its init container says why", s.refuse},
		{"A typing error is refused when it is typed", s.mistype},
		{"What STS and KMS counted", func(ctx context.Context) error { return s.emulator(ctx, "calls") }},
	} {
		s.step(chapter.title)
		if err := chapter.tell(ctx); err != nil {
			return err
		}
	}
	s.step("Done. Processes and files are removed; make demo-cluster tells the story on a real Kubernetes.")
	return nil
}

func (s *story) prepare(context.Context) error {
	s.say("Not as in a pod: the agent's containers are processes of this user; a volume is a directory in POD=%s (%s);", s.kubelet.dir,
		s.kubelet.kind)
	s.say("STS and KMS are at %s; the agent asks KMS every second, not every five minutes.", s.kubelet.cloud.addr)
	var err error
	s.webhook, err = newWebhook(s.kubelet.cloud.authority.PEM())
	return err
}

func (s *story) create(ctx context.Context) error {
	return s.emulator(ctx, "put-secret", secret, "--tag", "env=prod", "--value", s.first)
}

func (s *story) inject(ctx context.Context) error {
	if err := s.show(ctx, "grep kms.alibabacloud.com "+webManifest); err != nil {
		return err
	}
	var err error
	if s.template, err = podTemplate(webManifest); err != nil {
		return err
	}
	injected, err := s.webhook.admit(ctx, s.template)
	if err != nil {
		return err
	}
	s.say("The webhook adds to its pods, and to the sidecar kms-agent all else that kms-agent-init has:")
	if err := showAdditions(s.out, s.template, injected); err != nil {
		return err
	}
	s.web, err = s.kubelet.pod("web", injected)
	return err
}

func (s *story) start(ctx context.Context) error {
	s.say("kms-agent-init: %s", s.web.init)
	if err := s.web.runInit(ctx); err != nil {
		return err
	}
	s.say("kms-agent: %s &", s.web.sidecar)
	if err := s.web.startSidecar(ctx); err != nil {
		return err
	}
	if err := s.show(ctx, "ls -lL $POD/web/kms-secrets/db | cut -c 1-10"); err != nil {
		return err
	}
	return s.holds(ctx, s.first, 0)
}

func (s *story) rotate(ctx context.Context) error {
	if err := s.emulator(ctx, "rotate", secret, "--value", s.second); err != nil {
		return err
	}
	return s.holds(ctx, s.second, followLimit)
}

// holds shows the file, and fails if it does not hold the value within the limit.
func (s *story) holds(ctx context.Context, value string, limit time.Duration) error {
	file := filepath.Join(s.web.dir, "kms-secrets", "db")
	for end := time.Now().Add(limit); ; {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if string(text) == value {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s does not hold %s within %s; the sidecar says\n%s", file, value, limit, s.web.log())
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
	defer fmt.Fprintln(s.out)
	return s.show(ctx, "cat $POD/web/kms-secrets/db")
}

func (s *story) refuse(ctx context.Context) error {
	if err := s.show(ctx, "grep -e kind -e kms.alibabacloud.com/ "+strangerManifest); err != nil {
		return err
	}
	document, err := manifest(strangerManifest)
	if err != nil {
		return err
	}
	injected, err := s.webhook.admit(ctx, document)
	if err != nil {
		return err
	}
	stranger, err := s.kubelet.pod("stranger", injected)
	if err != nil {
		return err
	}
	s.say("kms-agent-init: %s", stranger.init)
	var failed *initError
	if err := stranger.runInit(ctx); !errors.As(err, &failed) {
		return fmt.Errorf("the agent of a pod that the role does not trust ended with %w", err)
	}
	s.say("%s", failed.message)
	return nil
}

func (s *story) mistype(ctx context.Context) error {
	const typed = `{"metadata": {"annotations": {"kms.alibabacloud.com/refresh-intervall": "1m"}}}`
	s.say("%s", typed)
	template, err := jsonpatch.MergePatch(s.template, []byte(typed))
	if err != nil {
		return err
	}
	var refused *refusedError
	if _, err = s.webhook.admit(ctx, template); !errors.As(err, &refused) {
		return fmt.Errorf("a pod with an unknown annotation was not refused: %w", err)
	}
	s.say("refused: %s", refused)
	return nil
}

func (s *story) step(title string) { s.say("\n[%6.1fs] %s", time.Since(s.begun).Seconds(), title) }

func (s *story) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

// show prints a shell's command, and what it prints.
func (s *story) show(ctx context.Context, line string) error {
	s.say("$ %s", line)
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Env = append(os.Environ(), "POD="+s.kubelet.dir)
	cmd.Stdout, cmd.Stderr = s.out, s.out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	return nil
}

// emulator runs the command line of kms-emulator.
func (s *story) emulator(ctx context.Context, args ...string) error {
	s.say("$ kms-emulator %s", strings.Join(args, " "))
	return command.Run(ctx, command.Streams{Out: s.out, Err: s.out}, append(args, "--control="+s.kubelet.cloud.control))
}
