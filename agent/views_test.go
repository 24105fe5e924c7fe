package agent

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
)

// A file that few containers get is in their directories only; the others are in all.
func TestViews(t *testing.T) {
	p := newPod(t)
	web, proxy := t.TempDir(), t.TempDir()
	p.doc.ViewDirs = []string{web, proxy}
	p.doc.Files = []agentconfig.File{
		{Path: "all", Mode: 0o400, Secret: "app/key", Format: config.Raw},
		{Path: "both", Mode: 0o400, Secret: "app/key", Format: config.Raw, Dirs: []string{web, proxy}},
		{Path: "web", Mode: 0o400, Secret: "app/db", Format: config.Raw, Dirs: []string{web}},
	}
	p.doc.Env = []config.Variable{{Name: "KEY", Secret: "app/key"}}
	p.doc.EnvMode = 0o400
	if err := Ready(t.Context(), p.doc); err == nil {
		t.Error("ready before the files are there")
	}
	p.init()
	if err := Ready(t.Context(), p.doc); err != nil {
		t.Error(err)
	}
	want := func(key string) {
		t.Helper()
		for dir, files := range map[string][]string{p.doc.SecretsDir: {"all"}, web: {"all", "both", "web"}, proxy: {"all", "both"}} {
			for _, name := range []string{"all", "both", "web"} {
				data, err := os.ReadFile(filepath.Join(dir, name))
				switch there := slices.Contains(files, name); {
				case !there && !errors.Is(err, os.ErrNotExist):
					t.Errorf("%s: %s is there, or %v", dir, name, err)
				case there && err != nil, there && name != "web" && string(data) != key:
					t.Errorf("%s: %s: %q, %v", dir, name, data, err)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, agentconfig.EnvFile)); err != nil {
				t.Error(err)
			}
		}
	}
	want("sentinel-key-1")
	p.wantCalls(1, 1)
	stop := p.run()
	p.waitFor("took over without a call")
	if err := p.cloud.Rotate("app/key", emulator.Version{Value: emulator.Value{Text: "two"}}); err != nil {
		t.Fatal(err)
	}
	p.waitFor("secret has another version")
	stop()
	want("two")
}
