package main

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestPublishSkipsWhatIsUnchanged(t *testing.T) {
	s := testSettings(t, "--platforms=linux/amd64")
	spec := testSpec(s)
	path := filepath.Join(s.out, "kms-agent.tar")
	step := func(spec imageSpec) string {
		t.Helper()
		var out bytes.Buffer
		if err := publish(t.Context(), progress{out: &out}, s, spec, path); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if got := step(spec); !strings.Contains(got, "wrote") {
		t.Errorf("the first time: %q, want it written", got)
	}
	if got := step(spec); !strings.Contains(got, "unchanged") {
		t.Errorf("the second time: %q, want it unchanged", got)
	}
	spec.platforms[0].layers[1][0].Data = append([]byte(nil), "another binary"...)
	if got := step(spec); !strings.Contains(got, "wrote") {
		t.Errorf("with another binary: %q, want it written", got)
	}
	if err := os.WriteFile(path, []byte("torn"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := step(spec); !strings.Contains(got, "wrote") {
		t.Errorf("over a broken archive: %q, want it written", got)
	}
	if left, _ := filepath.Glob(filepath.Join(s.out, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestKey(t *testing.T) {
	spec := func(change func(*imageSpec)) string {
		s := imageSpec{ref: "team/app:dev", platforms: []platformSpec{{hostPlatform, [][]entry{{{Path: "/a", Mode: 0o644, Data: []byte("1")}}}}}}
		change(&s)
		return s.key()
	}
	keys := map[string]string{}
	for what, change := range map[string]func(*imageSpec){
		"nothing":  func(*imageSpec) {},
		"ref":      func(s *imageSpec) { s.ref = "team/app:v1" },
		"user":     func(s *imageSpec) { s.config.User = "1" },
		"platform": func(s *imageSpec) { s.platforms[0].platform.arch = "riscv64" },
		"path":     func(s *imageSpec) { s.platforms[0].layers[0][0].Path = "/b" },
		"mode":     func(s *imageSpec) { s.platforms[0].layers[0][0].Mode = fs.ModeSymlink | 0o644 },
		"content":  func(s *imageSpec) { s.platforms[0].layers[0][0].Data = []byte("2") },
	} {
		key := spec(change)
		if other, same := keys[key]; same {
			t.Errorf("a change of %s gives the key of a change of %s", what, other)
		}
		keys[key] = what
	}
}

func TestCanonical(t *testing.T) {
	for ref, want := range map[string]string{
		"kms-agent-injector/kms-agent:dev":    "docker.io/kms-agent-injector/kms-agent:dev",
		"registry.example.com/team/agent:v1":  "registry.example.com/team/agent:v1",
		"registry.example.com:5000/agent:1.0": "registry.example.com:5000/agent:1.0",
	} {
		if got, err := canonical(ref); err != nil || got != want {
			t.Errorf("canonical(%q) = %q, %v, want %q", ref, got, err, want)
		}
	}
	if _, err := canonical("Team/agent:dev"); err == nil {
		t.Error("a reference with a capital letter was accepted")
	}
}

func TestParse(t *testing.T) {
	s := testSettings(t)
	if got, want := names(s.images), []string{"kms-webhook", "kms-agent", "kms-emulator"}; !slices.Equal(got, want) {
		t.Errorf("without names: %v, want %v", got, want)
	}
	s = testSettings(t, "--platforms=linux/arm64", "demo-app", "kms-agent")
	if got, want := names(s.images), []string{"kms-agent", "demo-app"}; !slices.Equal(got, want) {
		t.Errorf("with names: %v, want %v", got, want)
	}
	s = testSettings(t, "--registry=registry.example.com", "--repository=team", "--tag=v1", "kms-agent")
	if got, want := newSpec(s.images[0], s).ref, "registry.example.com/team/kms-agent:v1"; got != want {
		t.Errorf("the reference is %q, want %q", got, want)
	}
	for _, args := range [][]string{{"--platforms=windows/amd64"}, {"--platforms=linux"}, {"kms-agnet"}, {"--push"}} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}

func TestLayerRefusesAPathTwice(t *testing.T) {
	_, err := layerTar([]entry{{Path: "/a"}, {Path: "/a"}})
	if err == nil || !strings.Contains(err.Error(), "/a") {
		t.Errorf("error is %v, want one that names /a", err)
	}
}
