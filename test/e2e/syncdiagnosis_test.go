//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// Each link between an ExternalSecret and its Secret is broken in turn, and the doctor names it and no other; status says the same. A user
// who has no more than the ClusterRole kms-on-call is told that all is well where it is.
func (c controller) testDiagnosis(t *testing.T) {
	ns, name := namespace(t), secretName("diagnosis")
	put(t, name, "x")
	cloud(t, "x", "put-secret", name+"/untagged", "--value-stdin")
	serviceAccount(t, ns, "stranger", "shop") // which trusts shop/web only
	apply(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: target, namespace: "+ns+"}\nstringData: {x: of-another}\n")
	user := "on-call-" + ns
	kubectl(t, "create", "clusterrolebinding", user, "--clusterrole=kms-on-call", "--user="+user)
	t.Cleanup(func() {
		if out, err := tryKubectlAnyway("delete", "clusterrolebinding", user); err != nil {
			t.Error(err, out)
		}
	})
	entry := func(secret, more string) string { return "data:\n- {key: " + secret + ", name: x" + more + "}\n" }
	cases := map[string]struct{ account, spec, says string }{ // by the link
		"whole":      {appOnly, entry(name, ""), "says that it is as it should be; KMS was last read at"},
		"store":      {appOnly, entry(name, ", secretStoreRef: {name: none}"), "SecretStore " + ns + "/none does not exist"},
		"identity":   {"absent", entry(name, ""), "ServiceAccount " + ns + "/absent does not exist"},
		"role":       {"default", entry(name, ""), "no RAM role is set for ServiceAccount " + ns + "/default"},
		"trust":      {"stranger", entry(name, ""), "AuthenticationFail.NoPermission"},
		"permission": {appOnly, entry(name+"/untagged", ""), "Forbidden.NoPermission"},
		"name":       {appOnly, entry(name+"/none", ""), "Forbidden.ResourceNotFound"},
		"template":   {appOnly, entry(name, "") + "target: {template: {data: {out: '{{ .z }}'}}}\n", "the keys that were read are x"},
		"target":     {appOnly, entry(name, ""), "kms.alibabacloud.com/adopt=true"},
	}
	for link, c := range cases {
		apply(t, externalSecret(ns, link, c.account, c.spec))
	}
	for link, of := range cases {
		var d diagnosis
		eventually(t, patience, func() error {
			code, stdout, stderr := plugin(t, "", "doctor", "-n", ns, "externalsecret/"+link, "--sync-namespace", c.system, "--as", user,
				"-o", "json")
			if err := json.Unmarshal([]byte(stdout), &d); err != nil {
				return fmt.Errorf("%d %w %s", code, err, stderr)
			}
			var broken, unknown []string
			for _, c := range d.Checks {
				switch c.State {
				case "broken":
					broken = append(broken, strings.TrimSuffix(c.Link, "-policy"))
				case "unknown":
					unknown = append(unknown, c.Link)
				}
			}
			want, exit, unseen := link, 1, "secret"
			if link == "whole" {
				want, exit, unseen = "", 0, ""
			}
			if strings.Join(broken, " ") != want || strings.Join(unknown, " ") != unseen || !strings.Contains(stdout, of.says) || code != exit {
				return fmt.Errorf("exit code %d; broken %v, want %q; unknown %v, want %q; want the words %q:\n%s", code, broken, want, unknown,
					unseen, of.says, stdout)
			}
			return nil
		})
	}
	eventually(t, patience, func() error { // a slow machine refreshes late
		code, stdout, stderr := plugin(t, "", "status", "-n", ns, "--as", user, "-o", "json")
		var all []struct{ Name, State string }
		if err := json.Unmarshal([]byte(stdout), &all); err != nil || code != 1 || len(all) != len(cases) {
			return fmt.Errorf("status: exit code %d, %w\n%s%s", code, err, stdout, stderr)
		}
		for _, of := range all {
			if want := map[bool]string{true: "fresh", false: "failing"}[of.Name == "ExternalSecret/whole"]; of.State != want {
				return fmt.Errorf("status says %q of %s, want %q", of.State, of.Name, want)
			}
		}
		return nil
	})
	kubectl(t, "-n", ns, "delete", "externalsecrets", "--all", "--timeout=5m")
}
