package clusterconfig

import (
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// One meaning of a pattern, for the webhook's configuration, api-allow and the agent.
func TestMatchesSecret(t *testing.T) {
	const arn = "acs:kms:cn-hangzhou:9999:secret/anything/public"
	for _, c := range []struct {
		pattern, secret string
		want            bool
	}{
		{"*/public", "anything/public", true}, {"*/public", arn, false}, {"*secret*", arn, false}, {"**", arn, false}, {"*", arn, true},
		{"*", "x", true},
		{"acs:kms:*:9999:secret/*", arn, true}, {"acs:kms:*:1:secret/*", arn, false}, {"acs:*", "acs", false}, {"acs*", arn, false},
		{arn, arn, true}, {"app/db", "app/db", true}, {"app", "app/db", false},
	} {
		if got := config.MatchesSecret(c.pattern, c.secret); got != c.want ||
			(Allow{Secrets: []string{"other", c.pattern}}).Secret(c.secret) != c.want {
			t.Errorf("MatchesSecret(%q, %q) = %v", c.pattern, c.secret, got)
		}
	}
	for _, c := range []struct {
		allowed, pattern string
		want             bool
	}{{"*", "*", true}, {"**", "*", false}, {"acs:*", "*", false}, {"*", "acs:*", true}, {"**", "acs:*", false}, {"app/*", "app/x*", true},
		{"app/*", "a*", false}, {"*/public", "acs:kms:*:secret/public", false}} {
		if got := (Allow{Secrets: []string{c.allowed}}).SecretsOf(c.pattern); got != c.want {
			t.Errorf("%q allows all of %q: %v", c.allowed, c.pattern, got)
		}
	}
}
