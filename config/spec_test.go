package config

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// annotate makes annotations from lines "key: value", where key is without Prefix.
func annotate(lines ...string) map[string]string {
	m := map[string]string{}
	for _, line := range lines {
		key, value, _ := strings.Cut(line, ": ")
		m[Prefix+key] = value
	}
	return m
}

func TestParse(t *testing.T) {
	mode := uint32(0o440)
	defaults := Spec{
		Inject: true, TokenExpiration: 3600, Mode: ModeSidecar, MountPath: "/var/run/kms/secrets",
		RefreshInterval: 5 * time.Minute, LogLevel: "info", LogFormat: "json",
	}
	with := func(change func(*Spec)) Spec {
		s := defaults
		s.Secrets = []Secret{{File: "db", Name: "app/db", Format: Raw, Path: "db"}}
		change(&s)
		return s
	}
	for name, c := range map[string]struct {
		annotations map[string]string
		want        Spec
	}{
		"nothing of ours":       {map[string]string{"example.com/a": "b"}, Spec{}},
		"only our own mark":     {annotate("injected: v1"), Spec{}},
		"an explicit no":        {annotate("inject: false", "secret.db: app/db", "nonsense: x"), Spec{}},
		"the short form":        {annotate("inject: true", "secret.db: app/db"), with(func(*Spec) {})},
		"an injected pod again": {annotate("inject: true", "secret.db: app/db", "injected: v1"), with(func(*Spec) {})},
		"an ARN": {annotate("inject: true", "secret.db: acs:kms:cn-hangzhou:123:secret/app/db"), with(func(s *Spec) {
			s.Secrets[0].Name = "acs:kms:cn-hangzhou:123:secret/app/db"
		})},
		"a name that YAML takes for something else": {annotate("inject: true", "secret.db: @1"), with(func(s *Spec) { s.Secrets[0].Name = "@1" })},
		"the long form": {annotate("inject: true", "secret.db: {name: app/db, versionStage: ACSPrevious, format: env, keys: {USER: AccountName, PASSWORD: 'a.b[0]'}, path: conf/db.env, mode: \"0440\", optional: true}"),
			with(func(s *Spec) {
				s.Secrets[0] = Secret{File: "db", Name: "app/db", VersionStage: "ACSPrevious", Format: Env, Path: "conf/db.env", Mode: &mode, Optional: true,
					Keys: []Key{{"USER", "AccountName"}, {"PASSWORD", "a.b[0]"}}}
			})},
		"everything else": {annotate("inject: true", "secret.db: app/db", "role-name: reader", "token-expiration: 600", "mode: single", "containers: web, worker",
			"mount-path: /etc/app", "refresh-interval: 90s", "app-identity: true", "agent-requests: cpu=5m,memory=16Mi", "agent-limits: memory=32Mi",
			"log-level: debug", "log-format: text", "region: cn-beijing", "endpoint: kms.cn-beijing.aliyuncs.com"),
			with(func(s *Spec) {
				s.RoleName, s.TokenExpiration, s.Mode, s.Containers = "reader", 600, ModeSingle, []string{"web", "worker"}
				s.MountPath, s.RefreshInterval, s.AppIdentity = "/etc/app", 90*time.Second, true
				s.AgentRequests, s.AgentLimits = map[string]string{"cpu": "5m", "memory": "16Mi"}, map[string]string{"memory": "32Mi"}
				s.LogLevel, s.LogFormat, s.Region, s.Endpoint = "debug", "text", "cn-beijing", "kms.cn-beijing.aliyuncs.com"
			})},
		"never refreshed": {annotate("inject: true", "secret.db: app/db", "refresh-interval: 0"), with(func(s *Spec) { s.RefreshInterval = 0 })},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(c.annotations, Checks{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Each mistake must name the annotation and say what to write instead.
func TestParseMistakes(t *testing.T) {
	checks := Checks{Key: func(expression string) error {
		if strings.Contains(expression, "[[") {
			return errors.New("unexpected token")
		}
		return nil
	}}
	for name, c := range map[string]struct {
		annotations map[string]string
		want        []string // all must be in the message
	}{
		"a typo":                   {annotate("inject: true", "secrt.db: app/db", "secret.db: a"), []string{"kms.alibabacloud.com/secrt.db", "did you mean kms.alibabacloud.com/secret.db?"}},
		"another typo":             {annotate("inject: true", "mod: init", "secret.db: a"), []string{"did you mean kms.alibabacloud.com/mode?"}},
		"nothing near":             {annotate("inject: true", "zzzzzzzzz: init", "secret.db: a"), []string{"the known ones are inject, secret"}},
		"inject is missing":        {annotate("secret.db: app/db"), []string{"kms.alibabacloud.com/inject: is missing", `"true"`}},
		"inject is not a boolean":  {annotate("inject: yes", "secret.db: app/db"), []string{`"yes" is neither "true" nor "false"`}},
		"no secret":                {annotate("inject: true"), []string{"no secret is asked for", "secret.<file>"}},
		"no file name":             {annotate("inject: true", "secret.: app/db"), []string{"a name after the dot is missing"}},
		"empty secret":             {annotate("inject: true", "secret.db: "), []string{"name or ARN is missing"}},
		"malformed ARN":            {annotate("inject: true", "secret.db: acs:ram::1:role/x"), []string{"is not the ARN of a KMS secret"}},
		"a key in the short form":  {annotate("inject: true", "secret.db: app/db#key"), []string{"use the long form"}},
		"malformed YAML":           {annotate("inject: true", "secret.db: {name: app/db"), []string{"secret.db: not YAML", "line 1"}},
		"a list":                   {annotate("inject: true", "secret.db: [app/db]"), []string{"a list is not a secret"}},
		"unknown field":            {annotate("inject: true", "secret.db: {name: a, fromat: env}"), []string{`there is no field "fromat"`, `did you mean "format"?`}},
		"wrong type":               {annotate("inject: true", "secret.db: {name: a, optional: maybe}"), []string{"line 1", "bool"}},
		"two documents":            {annotate("inject: true", "secret.db: name: a\n---\nname: b"), []string{"more than one YAML document"}},
		"unknown format":           {annotate("inject: true", "secret.db: {name: a, format: ini}"), []string{"use raw, json, env, properties or yaml"}},
		"bad JMESPath":             {annotate("inject: true", "secret.db: {name: a, format: env, keys: {A: '[[x'}}"), []string{"keys: A:", "is not a JMESPath expression"}},
		"keys as a list":           {annotate("inject: true", "secret.db: {name: a, format: env, keys: [A]}"), []string{"keys must be a mapping"}},
		"a key twice":              {annotate("inject: true", "secret.db: {name: a, format: env, keys: {A: x, A: y}}"), []string{"A"}},
		"raw with two keys":        {annotate("inject: true", "secret.db: {name: a, keys: {A: x, B: y}}"), []string{"format raw writes one value"}},
		"a path that leaves":       {annotate("inject: true", "secret.db: {name: a, path: ../../etc/passwd}"), []string{"leaves the mount path"}},
		"a path that hides":        {annotate("inject: true", "secret.db: {name: a, path: x/../../y}"), []string{"leaves the mount path"}},
		"an absolute path":         {annotate("inject: true", "secret.db: {name: a, path: /etc/passwd}"), []string{"is absolute"}},
		"the switch's own names":   {annotate("inject: true", "secret.db: {name: a, path: ..data/x}"), []string{"begin with two dots"}},
		"the switch's own, short":  {annotate("inject: true", "secret...data: a"), []string{"begin with two dots"}},
		"two secrets for one file": {annotate("inject: true", "secret.a: {name: x, path: f}", "secret.b: {name: y, path: f}"), []string{"secret.b: writes f, which secret.a writes too"}},
		"a file that is a folder":  {annotate("inject: true", "secret.a: {name: x, path: f}", "secret.b: {name: y, path: f/g}"), []string{"a file and a folder"}},
		"a bad mode of a file":     {annotate("inject: true", "secret.db: {name: a, mode: \"0999\"}"), []string{"mode:", "octal"}},
		"a mode nobody reads":      {annotate("inject: true", "secret.db: {name: a, mode: \"0040\"}"), []string{"let the owner read"}},
		"not available, field":     {annotate("inject: true", "secret.db: {name: a, onChange: http://127.0.0.1/}"), []string{"onChange is not available in this version"}},
		"not available, key":       {annotate("inject: true", "secret.db: a", "env.DB: a#b"), []string{"env.DB", "not available in this version"}},
		"role ARN":                 {annotate("inject: true", "secret.db: a", "role-arn: reader"), []string{"acs:ram::<account>:role/<name>"}},
		"role twice":               {annotate("inject: true", "secret.db: a", "role-arn: acs:ram::1:role/a", "role-name: a"), []string{"role-name: contradicts role-arn"}},
		"token-expiration":         {annotate("inject: true", "secret.db: a", "token-expiration: 1h"), []string{"600 to 43200"}},
		"mode":                     {annotate("inject: true", "secret.db: a", "mode: sidecr"), []string{`did you mean "sidecar"?`}},
		"containers and skip":      {annotate("inject: true", "secret.db: a", "containers: a", "skip-containers: b"), []string{"contradicts containers"}},
		"empty container":          {annotate("inject: true", "secret.db: a", "containers: a,,b"), []string{"empty name"}},
		"mount-path":               {annotate("inject: true", "secret.db: a", "mount-path: /"), []string{"clean absolute path"}},
		"refresh-interval":         {annotate("inject: true", "secret.db: a", "refresh-interval: 1s"), []string{"at least 10s"}},
		"init that refreshes":      {annotate("inject: true", "secret.db: a", "mode: init", "refresh-interval: 1m"), []string{"contradicts mode: init"}},
		"single with a position":   {annotate("inject: true", "secret.db: a", "mode: single", "init-position: last"), []string{"contradicts mode: single"}},
		"requests":                 {annotate("inject: true", "secret.db: a", "agent-requests: cpu:10m"), []string{"<resource>=<quantity>"}},
		"unknown resource":         {annotate("inject: true", "secret.db: a", "agent-requests: memry=1Mi"), []string{`did you mean "memory"?`}},
		"quantity":                 {annotate("inject: true", "secret.db: a", "agent-limits: memory=1MB"), []string{"is not a quantity"}},
		"region":                   {annotate("inject: true", "secret.db: a", "region: Hangzhou"), []string{"cn-hangzhou"}},
		"endpoint":                 {annotate("inject: true", "secret.db: a", "endpoint: https://kms.example.com"), []string{"without scheme"}},
		"all of them together":     {annotate("mode: x", "region: X", "secret.db: {name: a, format: x, path: /a}"), []string{"5 mistakes", "kms.alibabacloud.com/mode", "kms.alibabacloud.com/region", "format", "path", "kms.alibabacloud.com/inject"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(c.annotations, checks)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in the message:\n%s", want, err)
				}
			}
			if strings.Contains(err.Error(), "config.") || strings.Contains(err.Error(), "longSecret") {
				t.Errorf("the message shows this program's types:\n%s", err)
			}
		})
	}
}

// Whatever a person writes, the answer is a Spec that keeps its promises or a message; never a panic.
func FuzzParse(f *testing.F) {
	f.Add("secret.db", "{name: a, format: env, keys: {A: b}}")
	f.Add("secret.db", "name: a\nmode: \"0400\"\n")
	f.Add("mount-path", "/a/b")
	f.Add("agent-limits", "memory=1Mi,cpu=1e3")
	f.Fuzz(func(t *testing.T, key, value string) {
		annotations := annotate("inject: true", "secret.other: app/other")
		annotations[Prefix+key] = value
		spec, err := Parse(annotations, Checks{})
		if err != nil {
			if err.Error() == "" {
				t.Error("an empty message")
			}
			return
		}
		paths := map[string]bool{}
		for _, s := range spec.Secrets {
			if strings.HasPrefix(s.Path, "/") || strings.Contains("/"+s.Path+"/", "/../") || paths[s.Path] || s.Name == "" {
				t.Errorf("accepted %+v", s)
			}
			paths[s.Path] = true
		}
	})
}
