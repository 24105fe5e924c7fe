package agentconfig

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

func TestRoundTrip(t *testing.T) {
	want := Config{
		Namespace: "prod", ServiceAccount: "web", KMS: Endpoint{Host: "kms-vpc.cn-hangzhou.aliyuncs.com", CABundle: "PEM"},
		SecretsDir: "/var/run/kms/secrets", StateDir: "/var/run/kms/agent", ViewDirs: []string{"/v/1"},
		RefreshInterval: config.Duration(5 * time.Minute), LogLevel: "info", LogFormat: "json",
		Identity: config.Identity{Kind: config.NodeRole}, SessionPolicy: true, SessionDuration: config.Duration(2 * time.Hour),
		OnChange:    "signal:HUP:web",
		MetricsPort: 9464,
		API:         &config.LocalAPI{Port: 2025, Allow: []string{"app/*"}, TokenFile: "/var/run/kmstoken/token"},
		Files: []File{
			{Path: "conf/db.env", Mode: 0o440, Secret: "app/db", Format: config.Env, Keys: []config.Key{{Name: "A", Path: "b"}},
				Optional: true, Dirs: []string{"/v/1"}},
			{Path: "t", Mode: 0o440, Format: config.Template, Template: "x",
				From: []config.Source{{Name: "db", Secret: "app/db"}}, RoleARN: "acs:ram::1:role/x",
				OnChange: "http://127.0.0.1:1/"},
		},
		Env: []config.Variable{{Name: "KEY", Secret: "app/key"}, {Name: "DB", Secret: "app/db", Key: "a.b"}}, EnvMode: 0o400, Program: Program,
	}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	for _, readable := range []string{`"5m0s"`, `"0440"`} {
		if !strings.Contains(string(text), readable) {
			t.Errorf("%s is not in %s", readable, text)
		}
	}
	got, err := Read(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestReadMistakes(t *testing.T) {
	for name, c := range map[string]struct{ document, want string }{
		"empty":         {"", "KMS_AGENT_CONFIG is empty"},
		"a newer field": {`{"newer": 1}`, "newer"},
		"two documents": {`{"kms":{}} {}`, "something follows"},
		"nothing to do": {`{"kms":{"host":"h"},"secretsDir":"/a","stateDir":"/b"}`, "files: is empty"},
		"a path leaves": {`{"kms":{"host":"h"},"secretsDir":"/a","stateDir":"/b",` +
			`"files":[{"path":"../x","mode":"0400","secret":"s","format":"raw"}]}`, "files[0].path"},
		"only an API": {`{"kms":{"host":"h"},"secretsDir":"/a","stateDir":"/b","api":{"port":1,"socket":"s"}}`,
			"api: must have a port or a socket, and not both"},
		"an identity": {`{"identity":{"kind":"root"}}`, "identity.kind"},
		"two sources": {`{"files":[{"path":"x","mode":"0400","secret":"s","from":[{"name":"a","secret":"b"}],` +
			`"format":"template","template":"x"}]}`, "files[0].from"},
		"no template":  {`{"files":[{"path":"x","mode":"0400","secret":"s","format":"template"}]}`, "files[0].template"},
		"notification": {`{"onChange":"http://example.com/"}`, "onChange"},
		"unknown format": {`{"kms":{"host":"h"},"secretsDir":"/a","stateDir":"/b",` +
			`"files":[{"path":"x","mode":"0400","secret":"s","format":"ini"}]}`, "files[0].format"},
		"an unknown view": {`{"viewDirs":["/a"],"files":[{"path":"x","mode":"0400","secret":"s","format":"raw","dirs":["/b"]}]}`,
			"files[0].dirs"},
		"a variable": {`{"env":[{"name":"1","secret":"s"}]}`, "env[0]"},
		"a bad mode": {`{"files":[{"mode":"9"}]}`, "in octal"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read([]byte(c.document))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want something with %q", err, c.want)
			}
		})
	}
}
