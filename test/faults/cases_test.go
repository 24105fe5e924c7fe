package faults

import (
	"os"
	"path/filepath"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/kms-agent-injector/kms-agent-injector/agent/source"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/authority"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

const gatewayName = "kms-vpc.cn-hangzhou.aliyuncs.com"

// faults returns all faults in real time, temporary and permanent ones; the first part of a name says what breaks.
func faults() []fault {
	return []fault{
		ofKMS("500", 2, 0, "InternalFailure", emulator.Fault{Status: 500, Code: "InternalFailure"}),
		ofKMS("503", 2, 0, "ServiceUnavailableTemporary", emulator.Fault{Status: 503}),
		ofSTS("503 of STS", 2, "ServiceUnavailableTemporary", emulator.Fault{Status: 503}),
		ofKMS("429", 1, 0, "Rejected.Throttling", emulator.Fault{Status: 429, Code: "Rejected.Throttling"}),
		ofKMS("429 with Retry-After: 2", 1, 2*time.Second, "Rejected.Throttling",
			emulator.Fault{Status: 429, Code: "Rejected.Throttling", RetryAfter: emulator.Duration(2 * time.Second)}),
		ofKMS("Throttling.User", 1, 0, "Throttling.User", emulator.Fault{Code: "Throttling.User"}),
		ofSTS("Throttling.User of STS", 1, "Throttling.User", emulator.Fault{Code: "Throttling.User"}),
		forAMinute(ofKMS("hang of 60 s", 5, 0, "took the request and did not answer for 10s", emulator.Fault{Hang: emulator.AtHeaders})),
		forAMinute(ofSTS("hang of 60 s of STS", 5, "STS did not answer in time", emulator.Fault{Hang: emulator.AtHeaders})),
		ofKMS("body cut in the middle", 2, 0, "read the answer", emulator.Fault{Cut: emulator.AtBody}),
		{
			name: "KMS down during the first refresh", failures: 2, says: "could not be reached",
			struck: func(p *pod) { p.cloud.Fault(p.t, emulator.Fault{Action: "*GetSecretValue", Cut: emulator.AtHeaders}) },
			heal:   func(p *pod) { p.cloud.ClearFaults() },
		},
		{
			name: "KMS down at start", atStart: true, failures: 3, says: "ServiceUnavailableTemporary",
			struck: func(p *pod) { p.cloud.Fault(p.t, emulator.Fault{Action: "*GetSecretValue", Status: 503}) },
			heal:   func(p *pod) { p.cloud.ClearFaults() },
		},
		refused(),
		unknownName(),
		{
			name: "TLS with the wrong CA", failures: 3, says: "kms.caFile",
			struck: func(p *pod) {
				other, err := authority.New()
				if err != nil {
					p.t.Fatal(err)
				}
				p.doc.KMS.CABundle = string(other.PEM())
			},
		},
		{name: "expired STS token", strike: func(p *pod) { p.cloud.ExpireSessions() }, sts: 1},
		revoked(),
		skewed("clock skew + 10 min", 10*time.Minute),
		skewed("clock skew - 10 min", -10*time.Minute),
		tokenFile("token file missing", "rrsa-oidc-token", func(p *pod) { os.Remove(p.token) }),
		tokenFile("token file empty", "the file is empty", func(p *pod) { p.writeToken("") }),
		tokenFile("token file rotated after it expired", "AuthenticationFail.OIDCToken.Expired", func(p *pod) {
			p.writeToken(p.cloud.Issuer.Token(p.t, emulatortest.Subject, func(c *jwt.Claims) {
				c.Expiry = jwt.NewNumericDate(time.Now().Add(-time.Hour))
			}))
		}),
		{
			name: "secret deleted", failures: 3, says: "Forbidden.ResourceNotFound", cost: secrets,
			strike: func(p *pod) {
				if err := p.cloud.DeleteSecret("app/key"); err != nil {
					p.t.Error(err)
				}
			},
			change: func(*pod) {},
			heal:   func(p *pod) { p.put(1, 2) },
		},
		{
			name: "secret version rolled back", after: 1,
			strike: func(p *pod) { p.put(1, 2); p.awaitGeneration(2); p.put(2, 1) },
			change: func(*pod) {},
		},
		full(),
	}
}

// ofKMS is a fault of KMS's answers to an agent that has a session. It ends at once.
func ofKMS(name string, failures int, pause time.Duration, says string, f emulator.Fault) fault {
	f.Action = "*GetSecretValue"
	return fault{
		name: name, failures: failures, says: says, pause: pause,
		strike: func(p *pod) { p.cloud.Fault(p.t, f) },
		heal:   func(p *pod) { p.cloud.ClearFaults() },
	}
}

// ofSTS is a fault of STS's answers to an agent that has no session yet. It ends at once.
func ofSTS(name string, failures int, says string, f emulator.Fault) fault {
	f.Action = "AssumeRoleWithOIDC"
	return fault{
		name: name, failures: failures, says: says, sts: -1,
		struck: func(p *pod) { p.loseSession(); p.cloud.Fault(p.t, f) },
		heal:   func(p *pod) { p.cloud.ClearFaults() },
	}
}

// loseSession has the next agent find none.
func (p *pod) loseSession() {
	p.t.Helper()
	if err := os.Remove(filepath.Join(p.doc.StateDir, source.SessionsFile)); err != nil {
		p.t.Error(err)
	}
}

// forAMinute is for faults that an attempt takes long to notice: there is time for many.
func forAMinute(f fault) fault {
	f.lasts = time.Minute
	return f
}

func refused() fault {
	var d *door
	return fault{
		name: "connection refused", failures: 3, says: "refused",
		struck: func(p *pod) { d = newDoor(p.t); p.doc.KMS.Host = d.addr },
		heal:   func(p *pod) { d.open(p.t, p.cloud.Addr) },
	}
}

func unknownName() fault {
	return fault{
		name: "DNS failure", failures: 3, says: "no such host",
		struck: func(p *pod) { p.doc.KMS.Host = gatewayName + p.cloud.Addr[len("127.0.0.1"):] },
		heal:   func(*pod) { names.known.Store(gatewayName, true) },
	}
}

func revoked() fault {
	var roles []emulator.Role
	return fault{
		name: "revoked role", failures: 3, says: "may not read", cost: secrets,
		strike: func(p *pod) {
			roles = p.cloud.Roles()
			if err := p.cloud.DeleteRole(roles[0].Name); err != nil {
				p.t.Error(err)
			}
		},
		heal: func(p *pod) {
			if err := p.cloud.PutRole(roles[0]); err != nil {
				p.t.Error(err)
			}
		},
	}
}

// skewed is a node whose clock is wrong. STS looks at the token alone, which the API server's clock has dated.
func skewed(name string, by time.Duration) fault {
	return fault{name: name, strike: func(p *pod) {
		p.cloud.Fault(p.t, emulator.Fault{Action: "*GetSecretValue", ClockSkew: emulator.Duration(by)})
	}}
}

// tokenFile is a projected token that is bad until the kubelet writes a good one. The agent that finds it has no session.
func tokenFile(name, says string, spoil func(*pod)) fault {
	return fault{
		name: name, failures: 3, says: says, sts: -1, struck: func(p *pod) { p.loseSession(); spoil(p) },
		heal: func(p *pod) { p.writeToken(p.cloud.Issuer.Token(p.t, emulatortest.Subject)) },
	}
}

// writeToken replaces the token at one moment, as the kubelet does.
func (p *pod) writeToken(token string) {
	p.t.Helper()
	next := filepath.Join(filepath.Dir(p.token), "next")
	if err := os.WriteFile(next, []byte(token), 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(next, p.token); err != nil {
		p.t.Fatal(err)
	}
}
