package injector_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

const asked = `"kms.alibabacloud.com/inject":"true","kms.alibabacloud.com/secret.db":"{name: app/db, mode: \"0400\"}",` +
	`"kms.alibabacloud.com/secret.log":"{name: app/log, containers: [web]}","kms.alibabacloud.com/env.KEY":"app/key"`

// TestOutdated changes annotations of a pod after its injection, as a webhook does that comes later.
func TestOutdated(t *testing.T) {
	for name, c := range map[string]struct {
		before  string   // more annotations of the injection
		after   string   // annotations that come, or change, afterwards
		gone    []string // that go
		operate string   // the webhook's configuration of the second time
		refused []string // annotations, without the prefix
		surplus string   // what the agent has that is asked for no more
		warned  []string // parts of what is said
	}{
		"nothing":                     {},
		"a secret more":               {after: `"secret.ca":"app/ca"`, refused: []string{"secret.ca"}},
		"another secret for the file": {after: `"secret.db":"{name: app/other, mode: \"0400\"}"`, refused: []string{"secret.db"}},
		"another format":              {after: `"secret.db":"{name: app/db, mode: \"0400\", format: json}"`, refused: []string{"secret.db"}},
		"another mode of the file":    {after: `"secret.db":"{name: app/db, mode: \"0600\"}"`, refused: []string{"secret.db"}},
		"no mode of the file":         {after: `"secret.db":"app/db"`},
		"for other containers":        {after: `"secret.log":"{name: app/log, containers: [worker]}"`, refused: []string{"secret.log"}},
		"for more containers":         {after: `"secret.log":"{name: app/log, containers: [web, worker]}"`, refused: []string{"secret.log"}},
		"for fewer containers": {before: `"secret.log":"{name: app/log, containers: [web, worker]}"`,
			after: `"secret.log":"{name: app/log, containers: [web]}"`, refused: []string{"secret.log"}},
		"for all containers":          {after: `"secret.log":"app/log"`, refused: []string{"secret.log"}},
		"a variable more":             {after: `"env.TOKEN":"app/token"`, refused: []string{"env.TOKEN"}},
		"another key of the variable": {after: `"env.KEY":"app/key#a"`, refused: []string{"env.KEY"}},
		"the API":                     {after: `"api":"true"`, gone: []string{"secret.log"}, refused: []string{"api"}, surplus: "the file log"},
		"another port":                {before: `"api":"true"`, after: `"api-port":"3000"`, refused: []string{"api-port"}},
		"a socket":                    {before: `"api":"true"`, after: `"api-socket":"x"`, refused: []string{"api-socket"}},
		"more of the API":             {before: `"api":"true"`, after: `"api-allow":"app/a*"`, refused: []string{"api-allow"}},
		"another identity":            {after: `"identity":"node-role"`, refused: []string{"identity"}},
		"another role":                {after: `"role-name":"other"`, refused: []string{"role-name"}},
		"another role, by its ARN":    {after: `"role-arn":"acs:ram::1234567890123456:role/other"`, refused: []string{"role-arn"}},
		"the same role, said":         {after: `"role-name":"shop"`},
		"another host":                {after: `"endpoint":"x.cryptoservice.kms.aliyuncs.com"`, refused: []string{"endpoint"}},
		"several": {after: `"env.TOKEN":"app/token","secret.ca":"app/ca","log-level":"debug"`,
			refused: []string{"env.TOKEN", "secret.ca", "log-level"}},
		"a secret less":              {gone: []string{"secret.db"}, surplus: "the file db"},
		"all secrets of a kind less": {gone: []string{"env.KEY"}, surplus: "environment variables"},
		"no API any more":            {before: `"api":"true"`, gone: []string{"api"}, surplus: "the local API"},
		"how the agent works": {
			after:   `"refresh-interval":"90s","on-change":"http://127.0.0.1:80/x","log-level":"debug","log-format":"text","region":"cn-beijing"`,
			refused: []string{"refresh-interval", "on-change", "log-level", "log-format", "region"}},
		"the mode": {after: `"mode":"init"`,
			warned: []string{"kms.alibabacloud.com/mode: changed after the agent was injected"}},
		"a mode with more":            {before: `"mode":"init"`, after: `"mode":"sidecar"`},
		"the mount path":              {after: `"mount-path":"/etc/x"`, warned: []string{"kms.alibabacloud.com/mount-path: changed"}},
		"containers":                  {after: `"containers":"web"`, warned: []string{"kms.alibabacloud.com/containers: changed"}},
		"skipped containers":          {after: `"skip-containers":"worker"`, warned: []string{"kms.alibabacloud.com/skip-containers: changed"}},
		"the webhook's configuration": {operate: "plain-sidecar"},
	} {
		t.Run(name, func(t *testing.T) {
			in, later := administrator(t, ""), administrator(t, c.operate)
			first := `{"metadata":{"annotations":{` + asked + prefixed(c.before) +
				`}},"spec":{"securityContext":{"runAsUser":1000},"containers":[{"name":"web","command":["/web"]},` +
				`{"name":"worker","command":["/work"]}]}}`
			if strings.Contains(c.before+c.after, `"api"`) { // which contradicts a secret for few
				first = strings.Replace(first, `, containers: [web]`, "", 1)
			}
			pod := change(t, mustInject(t, in, []byte(first)), c.after, c.gone)
			again, warnings, err := inject(later, pod)
			var want []string
			for _, annotation := range c.refused {
				want = append(want, podconfig.Prefix+annotation+": this annotation was written after the agent was injected, so the agent ignores it; "+
					"write it into the pod template")
			}
			if c.surplus != "" {
				want = append(want, podconfig.Prefix+"inject: the agent in this pod has more than the annotations ask for, "+c.surplus+
					"; write it into the pod template")
			}
			refusedFor(t, err, want)
			said := slices.DeleteFunc(warnings, func(w string) bool { return !strings.Contains(w, "was injected") })
			if len(said) != len(c.warned) {
				t.Fatalf("warned %q", warnings)
			}
			for i, want := range c.warned {
				if !strings.Contains(said[i], want) || !strings.Contains(said[i], "remove the containers kms-agent-init and kms-agent") {
					t.Errorf("warned %q, want %q", said[i], want)
				}
			}
			if err == nil {
				twiceIsOnce(t, later, again)
			}
		})
	}
}

// refusedFor checks that an error has these mistakes and no others.
func refusedFor(t *testing.T, err error, want []string) {
	t.Helper()
	mistakes, _ := err.(config.Mistakes) //nolint:errorlint // that is what it is
	if len(mistakes) != len(want) || err != nil && len(want) == 0 {
		t.Fatalf("%d mistakes, want %d: %v", len(mistakes), len(want), err)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not in %v", w, err)
		}
	}
}

// prefixed puts the prefix before the keys of annotations, and a comma before all.
func prefixed(annotations string) string {
	if annotations == "" {
		return ""
	}
	return "," + strings.ReplaceAll(`,`+annotations, `,"`, `,"`+podconfig.Prefix)[1:]
}

func change(t *testing.T, pod []byte, after string, gone []string) []byte {
	t.Helper()
	var changed, more object
	unmarshal(t, pod, &changed)
	unmarshal(t, []byte("{"+strings.TrimPrefix(prefixed(after), ",")+"}"), &more)
	annotations := changed["metadata"].(object)["annotations"].(object)
	for key, value := range more {
		annotations[key] = value
	}
	for _, key := range gone {
		delete(annotations, podconfig.Prefix+key)
	}
	return marshal(t, changed)
}

// TestNotOutdated: what other webhooks do to a pod, and an earlier program that said more, are no mistake.
func TestNotOutdated(t *testing.T) {
	const before = `{"metadata":{"annotations":{` + asked +
		`}},"spec":{"securityContext":{"runAsUser":1000},"containers":[{"name":"web","command":["/web"]}]}}`
	for name, c := range map[string]struct{ old, replacement string }{
		"a container of another user": {`"containers":[`, `"containers":[{"name":"late","command":["/x"],"securityContext":{"runAsUser":1337}},`},
		"another user of the pod":     {`"runAsUser":1000`, `"runAsUser":1001`},
		"another node's network":      {`"spec":{`, `"spec":{"hostNetwork":true,`},
		"defaults that are said": {`\"refreshInterval\"`,
			`\"secretsDir\":\"/var/run/kms/secrets\",\"logLevel\":\"info\",\"refreshInterval\"`},
	} {
		t.Run(name, func(t *testing.T) {
			in := administrator(t, "")
			injected := mustInject(t, in, []byte(before))
			pod := bytes.ReplaceAll(injected, []byte(c.old), []byte(c.replacement))
			if bytes.Equal(pod, injected) {
				t.Fatalf("%s is not in %s", c.old, injected)
			}
			_, warnings, err := inject(in, pod)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range warnings {
				if strings.Contains(w, "was written after") {
					t.Error(w)
				}
			}
		})
	}
}

func TestUnasked(t *testing.T) {
	injected := mustInject(t, administrator(t, ""), []byte(`{"metadata":{"annotations":{`+asked+
		`}},"spec":{"securityContext":{"runAsUser":1000},"containers":[{"name":"web","command":["/web"]}]}}`))
	const agent = `{"spec":{"containers":[{"name":"kms-agent"}]},"metadata":{"annotations":{"kms.alibabacloud.com/inject":"false"}}}`
	for name, c := range map[string]struct {
		pod    []byte
		warned bool
	}{
		"switched off":          {change(t, injected, `"inject":"false"`, nil), true},
		"taken away":            {change(t, injected, "", []string{"inject", "secret.db", "secret.log", "env.KEY"}), true},
		"an agent of one's own": {[]byte(agent), false},
		"no agent": {[]byte(strings.NewReplacer("kms-agent", "web", `"false"`,
			`"false","kms.alibabacloud.com/injected":"v1"`).Replace(agent)), false},
	} {
		t.Run(name, func(t *testing.T) {
			_, warnings, err := inject(administrator(t, ""), c.pod)
			if err != nil {
				t.Fatal(err)
			}
			if (len(warnings) == 1 && strings.HasPrefix(warnings[0],
				"kms.alibabacloud.com/inject: does not ask for the agent any more")) != c.warned || len(warnings) > 1 {
				t.Errorf("warned %q", warnings)
			}
		})
	}
}
