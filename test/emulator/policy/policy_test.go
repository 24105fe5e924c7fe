package policy

import (
	"strings"
	"testing"
)

const (
	trust = `{ "Statement": [ { "Action": "sts:AssumeRole", "Condition": { "StringEquals": {
		"oidc:aud": [ "sts.aliyuncs.com" ],
		"oidc:iss": [ "https://oidc-ack-cn-hongkong.oss-cn-hongkong.aliyuncs.com/cf01" ],
		"oidc:sub": [ "system:serviceaccount:rrsa-dev:dev-sa" ] } },
		"Effect": "Allow", "Principal": { "Federated": [ "acs:ram::5269:oidc-provider/ack-rrsa-cf01" ] } } ], "Version": "1" }`
	tagged = `{ "Version": "1", "Statement": [ { "Effect": "Allow", "Action": [ "kms:Decrypt", "kms:GetSecretValue" ],
		"Resource": "*", "Condition": { "StringEqualsIgnoreCase": { "kms:tag/env": [ "dev" ] } } } ] }`
)

func TestTrust(t *testing.T) {
	good := func() Request {
		return Request{
			Action:    "sts:AssumeRole",
			Federated: "acs:ram::5269:oidc-provider/ack-rrsa-cf01",
			Context: map[string][]string{
				"oidc:aud": {"sts.aliyuncs.com"},
				"oidc:iss": {"https://oidc-ack-cn-hongkong.oss-cn-hongkong.aliyuncs.com/cf01"},
				"oidc:sub": {"system:serviceaccount:rrsa-dev:dev-sa"},
			},
		}
	}
	anyAccount := strings.NewReplacer("StringEquals", "StringLike", ":dev-sa", ":*").Replace(trust)
	notProd := strings.NewReplacer("StringEquals", "StringNotEquals", ":dev-sa", ":prod-sa",
		"sts.aliyuncs.com", "other", "cf01\" ],", "cf02\" ],").Replace(trust)
	plainStrings := strings.NewReplacer("[ \"", "\"", "\" ]", "\"").Replace(trust)
	for name, c := range map[string]struct {
		policy string
		change func(*Request)
		want   Decision
	}{
		"as documented":       {trust, func(*Request) {}, Allow},
		"strings, not lists":  {plainStrings, func(*Request) {}, Allow},
		"other subject":       {trust, func(r *Request) { r.Context["oidc:sub"] = []string{"system:serviceaccount:a:b"} }, ImplicitDeny},
		"other issuer":        {trust, func(r *Request) { r.Context["oidc:iss"] = []string{"https://example.com"} }, ImplicitDeny},
		"other audience":      {trust, func(r *Request) { r.Context["oidc:aud"] = []string{"vault"} }, ImplicitDeny},
		"one audience of two": {trust, func(r *Request) { r.Context["oidc:aud"] = []string{"vault", "sts.aliyuncs.com"} }, Allow},
		"no subject":          {trust, func(r *Request) { delete(r.Context, "oidc:sub") }, ImplicitDeny},
		"other provider":      {trust, func(r *Request) { r.Federated = "acs:ram::5269:oidc-provider/x" }, ImplicitDeny},
		"case of the subject": {trust, func(r *Request) { r.Context["oidc:sub"] = []string{"SYSTEM:serviceaccount:rrsa-dev:dev-sa"} },
			ImplicitDeny},
		"like, other account": {anyAccount, func(r *Request) { r.Context["oidc:sub"] = []string{"system:serviceaccount:rrsa-dev:x"} }, Allow},
		"like, other namespace": {anyAccount, func(r *Request) { r.Context["oidc:sub"] = []string{"system:serviceaccount:rrsa-prod:x"} },
			ImplicitDeny},
		"not equal, all differ": {notProd, func(*Request) {}, Allow},
		"not equal, one is same": {notProd, func(r *Request) { r.Context["oidc:sub"] = []string{"system:serviceaccount:rrsa-dev:prod-sa"} },
			ImplicitDeny},
	} {
		t.Run(name, func(t *testing.T) {
			doc, err := ParseTrust(c.policy)
			if err != nil {
				t.Fatal(err)
			}
			r := good()
			c.change(&r)
			if got := Decide([]Document{doc}, r); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestPrincipals(t *testing.T) {
	const user, root = "acs:ram::1:user/deployer", "acs:ram::1:root"
	for _, c := range []struct {
		principal string
		request   Request
		want      Decision
	}{
		{`{"RAM":"acs:ram::1:user/deployer"}`, Request{RAM: []string{root, user}}, Allow},
		{`{"RAM":["acs:ram::2:root","acs:ram::1:root"]}`, Request{RAM: []string{root, user}}, Allow},
		{`{"RAM":"acs:ram::1:user/other"}`, Request{RAM: []string{root, user}}, ImplicitDeny},
		{`{"RAM":"acs:ram::2:root"}`, Request{RAM: []string{root, user}}, ImplicitDeny},
		{`{"Service":["ecs.aliyuncs.com"]}`, Request{Service: "ecs.aliyuncs.com"}, Allow},
		{`{"Service":["ecs.aliyuncs.com"]}`, Request{Service: "fc.aliyuncs.com"}, ImplicitDeny},
		{`{"Service":["ecs.aliyuncs.com"]}`, Request{RAM: []string{root, user}}, ImplicitDeny},
		{`{"RAM":"acs:ram::1:root"}`, Request{Federated: "acs:ram::1:oidc-provider/x"}, ImplicitDeny},
	} {
		doc, err := ParseTrust(`{"Version":"1","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":` + c.principal + `}]}`)
		if err != nil {
			t.Fatal(err)
		}
		c.request.Action = "sts:AssumeRole"
		if got := Decide([]Document{doc}, c.request); got != c.want {
			t.Errorf("%s, %v: got %s, want %s", c.principal, c.request, got, c.want)
		}
	}
}

func TestPermissions(t *testing.T) {
	policy := func(effect, action, resource string) string {
		return `{"Version":"1","Statement":[{"Effect":"` + effect + `","Action":"` + action + `","Resource":"` + resource + `"}]}`
	}
	get := func(name string) Request {
		return Request{
			Action:   "kms:GetSecretValue",
			Resource: "acs:kms:cn-hangzhou:1234567890123456:secret/" + name,
			Context:  map[string][]string{"kms:tag/env": {"dev"}},
		}
	}
	for name, c := range map[string]struct {
		policies []string
		request  Request
		want     Decision
	}{
		"no policy":              {nil, get("db"), ImplicitDeny},
		"tag matches":            {[]string{tagged}, get("db"), Allow},
		"tag in another case":    {[]string{strings.Replace(tagged, `"dev"`, `"DEV"`, 1)}, get("db"), Allow},
		"tag differs":            {[]string{strings.Replace(tagged, `"dev"`, `"prod"`, 1)}, get("db"), ImplicitDeny},
		"tag missing":            {[]string{strings.Replace(tagged, "tag/env", "tag/team", 1)}, get("db"), ImplicitDeny},
		"another action":         {[]string{policy("Allow", "kms:Decrypt", "*")}, get("db"), ImplicitDeny},
		"action wildcard":        {[]string{policy("Allow", "kms:Get*", "*")}, get("db"), Allow},
		"service wildcard":       {[]string{policy("Allow", "kms:*", "*")}, get("db"), Allow},
		"everything":             {[]string{policy("Allow", "*", "*")}, get("db"), Allow},
		"action case":            {[]string{policy("Allow", "KMS:getsecretvalue", "*")}, get("db"), Allow},
		"resource by ARN":        {[]string{policy("Allow", "kms:*", "acs:kms:cn-hangzhou:1234567890123456:secret/db")}, get("db"), Allow},
		"resource below a path":  {[]string{policy("Allow", "kms:*", "acs:kms:*:*:secret/app/*")}, get("app/prod/db"), Allow},
		"resource elsewhere":     {[]string{policy("Allow", "kms:*", "acs:kms:*:*:secret/app/*")}, get("db"), ImplicitDeny},
		"deny wins, either side": {[]string{policy("Allow", "*", "*"), policy("Deny", "kms:*", "*")}, get("db"), ExplicitDeny},
		"deny wins, first":       {[]string{policy("Deny", "kms:*", "*"), policy("Allow", "*", "*")}, get("db"), ExplicitDeny},
		"deny of another secret": {[]string{policy("Deny", "*", "*secret/root"), policy("Allow", "*", "*")}, get("db"), Allow},
		"not action": {[]string{strings.Replace(policy("Allow", "kms:Get*", "*"), "Action", "NotAction", 1)}, get("db"),
			ImplicitDeny},
		"not resource": {[]string{strings.Replace(policy("Allow", "*", "*secret/root"), "Resource", "NotResource", 1)}, get("db"),
			Allow},
	} {
		t.Run(name, func(t *testing.T) {
			var docs []Document
			for _, text := range c.policies {
				doc, err := ParsePermissions(text)
				if err != nil {
					t.Fatal(err)
				}
				docs = append(docs, doc)
			}
			if got := Decide(docs, c.request); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestRefusedPolicies(t *testing.T) {
	const condition = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":`
	for want, text := range map[string]string{
		"read policy":          `{"Version":"1","Statement":[`,
		"unknown field":        `{"Version":"1","Statements":[]}`,
		"knows only":           `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`,
		"no Statement":         `{"Version":"1"}`,
		"want Allow or Deny":   `{"Version":"1","Statement":[{"Effect":"allow","Action":"*","Resource":"*"}]}`,
		"Action or NotAction":  `{"Version":"1","Statement":[{"Effect":"Allow","Resource":"*"}]}`,
		"Resource or NotResou": `{"Version":"1","Statement":[{"Effect":"Allow","Action":"*"}]}`,
		"no Principal":         trust,
		"condition operator":   condition + `{"IpAddress":{"acs:SourceIp":"10.0.0.0/8"}}}]}`,
		"has no value":         condition + `{"StringEquals":{"kms:tag/env":[]}}}]}`,
		"string or a list":     `{"Version":"1","Statement":[{"Effect":"Allow","Action":7,"Resource":"*"}]}`,
		"closing brace":        tagged + "x",
	} {
		if _, err := ParsePermissions(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
	for want, text := range map[string]string{
		"needs a Principal": tagged,
		"has no Resource":   strings.Replace(trust, `"Effect"`, `"Resource":"*","Effect"`, 1),
	} {
		if _, err := ParseTrust(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}
