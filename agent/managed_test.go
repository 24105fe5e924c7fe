package agent

import (
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
)

// The values of managed secrets are JSON of KMS's own, which files take apart as that of any other secret.
func TestManagedSecrets(t *testing.T) {
	var files []agentconfig.File
	for name, path := range map[string]string{"rds": "AccountPassword", "ram": "AccessKeySecret", "ecs": "Password", "ecs-key": "PrivateKey"} {
		files = append(files, agentconfig.File{
			Path: name, Mode: 0o400, Secret: "managed/" + name, Format: config.Env, Keys: []config.Key{{Name: "SECRET", Path: path}},
		})
	}
	p := newPod(t, files...)
	for _, s := range []struct{ name, kind, value string }{
		{"rds", "Rds", `{"AccountName":"app","AccountPassword":"sentinel-rds"}`},
		{"ram", "RAMCredentials", `{"AccessKeyId":"LTAI","AccessKeySecret":"sentinel-ram"}`},
		{"ecs", "ECS", `{"UserName":"root","Password":"sentinel-ecs"}`},
		{"ecs-key", "ECS", `{"UserName":"root","PublicKey":"ssh-rsa","PrivateKey":"sentinel\nkey"}`},
	} {
		p.cloud.Put(t, emulator.Secret{
			Name: "managed/" + s.name, Type: s.kind, Tags: dev, Value: emulator.Value{Text: s.value},
			AutomaticRotation: "Enabled", RotationInterval: "604800s", ExtendedConfig: `{"SecretSubType":"SingleUser"}`,
		})
	}
	p.init()
	p.wantFiles(map[string]string{
		"rds": "SECRET=sentinel-rds\n", "ram": "SECRET=sentinel-ram\n", "ecs": "SECRET=sentinel-ecs\n", "ecs-key": "SECRET='sentinel\nkey'\n",
	})
	held, err := loadSnapshot(p.doc.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	for ref, v := range held.Values {
		if s := v.secret; s.NextRotation.IsZero() || s.Answer.AutomaticRotation != "Enabled" || s.Answer.ExtendedConfig == "" ||
			len(values{{Name: ref.Name, VersionID: "v1"}: v}.lasting()) > 0 {
			t.Errorf("%s of type %s: %+v", ref, s.Type, s.Answer)
		}
	}
}
