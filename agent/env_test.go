package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
)

// envPod has two variables, one of them a key, beside a file of the same secret.
func envPod(t *testing.T) *pod {
	p := newPod(t, agentconfig.File{Path: "api-key", Mode: 0o400, Secret: "app/key", Format: config.Raw})
	p.doc.Env = []config.Variable{{Name: "KEY", Secret: "app/key"}, {Name: "DB_PASSWORD", Secret: "app/db", Key: "AccountPassword"}}
	p.doc.EnvMode = 0o440
	return p
}

func (p *pod) wantVariables(want map[string]string) {
	p.t.Helper()
	data, err := os.ReadFile(filepath.Join(p.doc.SecretsDir, agentconfig.EnvFile))
	if err != nil {
		p.t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal(data, &got); err != nil || !reflect.DeepEqual(got, want) {
		p.t.Errorf("variables %q, %v, want %q", got, err, want)
	}
}

func TestVariablesAreWrittenWithTheFiles(t *testing.T) {
	p := envPod(t)
	p.init()
	p.wantVariables(map[string]string{"KEY": "sentinel-key-1", "DB_PASSWORD": "sentinel-1"})
	p.wantFiles(map[string]string{"api-key": "sentinel-key-1"})
	p.wantCalls(1, 1)
	if info, err := os.Stat(filepath.Join(p.doc.SecretsDir, agentconfig.EnvFile)); err != nil || info.Mode().Perm() != 0o440 {
		t.Errorf("%v, %v, want the document's mode", info.Mode(), err)
	}
}

// Containers that restart get the new values. There is no notification, because a running process keeps its environment.
func TestVariablesFollowARotation(t *testing.T) {
	p := envPod(t)
	p.doc.Files = nil
	p.init()
	if err := Ready(t.Context(), p.doc); err != nil {
		t.Error(err)
	}
	stop := p.run()
	p.waitFor("took over without a call")
	if err := p.cloud.Rotate("app/key", emulator.Version{Value: emulator.Value{Text: "two"}}); err != nil {
		t.Fatal(err)
	}
	p.waitFor("secret has another version")
	stop()
	p.wantVariables(map[string]string{"KEY": "two", "DB_PASSWORD": "sentinel-1"})
}

func TestVariableThatCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		value    emulator.Value
		variable config.Variable
		want     string
	}{
		"a key that is not there": {emulator.Value{Text: `{"a":"sentinel"}`}, config.Variable{Key: "b"}, "the secret has a"},
		"a key that is null":      {emulator.Value{Text: `{"a":null,"s":"sentinel"}`}, config.Variable{Key: "a"}, "is null"},
		"a key of text":           {emulator.Value{Text: "sentinel"}, config.Variable{Key: "a"}, "not JSON"},
		"NUL":                     {emulator.Value{Text: "sentinel\x00"}, config.Variable{}, "NUL"},
		"binary":                  {emulator.Value{Binary: "c2VudGluZWw="}, config.Variable{}, "binary"},
		"no such secret":          {emulator.Value{}, config.Variable{Secret: "app/none"}, "app/none"},
	} {
		t.Run(name, func(t *testing.T) {
			p := envPod(t)
			if c.variable.Secret == "" {
				c.variable.Secret = "app/x"
				p.cloud.Put(t, emulator.Secret{Name: "app/x", Tags: dev, Value: c.value})
			}
			c.variable.Name = "X"
			p.doc.Env = append(p.doc.Env, c.variable)
			err := p.agent().Init(t.Context())
			if err == nil || !strings.Contains(err.Error(), "env.X") || !strings.Contains(err.Error(), c.want) ||
				strings.Contains(err.Error(), "sentinel") {
				t.Errorf("got %v, want env.X and %q", err, c.want)
			}
			p.wantFiles(map[string]string{})
		})
	}
}

// The program is there, whole and for every user, before the files are; a second agent of the pod leaves it alone.
func TestInstall(t *testing.T) {
	p := envPod(t)
	p.doc.Program = filepath.Join(t.TempDir(), "kms-agent")
	if err := os.WriteFile(p.doc.Program, []byte("half of an agent"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.init()
	first, err := os.Stat(p.doc.Program)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Stat(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if first.Size() != self.Size() || first.Mode().Perm() != 0o555 {
		t.Errorf("%d bytes, mode %s, want %d bytes, mode 0555", first.Size(), first.Mode(), self.Size())
	}
	p.init()
	if second, err := os.Stat(p.doc.Program); err != nil || !os.SameFile(first, second) {
		t.Errorf("it was copied again: %v", err)
	}
	p.doc.Program = filepath.Join(t.TempDir(), "none", "kms-agent")
	if err := p.agent().Init(t.Context()); err == nil || !strings.Contains(err.Error(), p.doc.Program) {
		t.Errorf("got %v, want an error with the path", err)
	}
}
