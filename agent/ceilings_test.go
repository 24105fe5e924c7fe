package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
	"github.com/kms-agent-injector/kms-agent-injector/test/written"
)

// The ceilings in docs/operations.md follow from the quotas and from when an agent asks.
func TestCeilings(t *testing.T) {
	written.Check(t, "../docs/operations.md", "ceilings", ceilings())
}

func ceilings() string {
	const perSecond = 100 * 60 // the other quota of STS that is documented, in a minute
	var b strings.Builder
	b.WriteString("\n| new pods in a minute | STS 500 a minute | STS 100 a second |\n|---|---|---|\n")
	for _, secrets := range []int{1, 3, 10} {
		kms := kmsQuota * 60 / secrets
		fmt.Fprintf(&b, "| secrets of each: %d | %s | %s |\n", secrets, thousands(min(stsQuota, kms)), thousands(min(perSecond, kms)))
	}
	b.WriteString("\n| refreshed every | pods × secrets: KMS 450 a second | pods: STS 500 a minute, sessions of 1 h | of 4 h | of 12 h " +
		"| pods: STS 100 a second, sessions of 1 h |\n|---|---|---|---|---|---|\n")
	for _, minutes := range []int{1, 5, 15, 60} {
		pods := func(perMinute int, session time.Duration) string {
			return thousands(int(float64(perMinute) * exchangeEvery(time.Duration(minutes)*time.Minute, session).Minutes()))
		}
		fmt.Fprintf(&b, "| %d min | %s | %s | %s | %s | %s |\n", minutes, thousands(kmsQuota*60*minutes), pods(stsQuota, time.Hour),
			pods(stsQuota, 4*time.Hour), pods(stsQuota, 12*time.Hour), pods(perSecond, time.Hour))
	}
	return b.String() + "\n"
}

// exchangeEvery is the mean time between two exchanges of a pod with STS: the first refresh after three quarters of the session, give
// or take a tenth of them.
func exchangeEvery(interval, session time.Duration) time.Duration {
	const samples = 200
	var sum time.Duration
	for i := range samples {
		due := session * 3 / 4 * time.Duration(18*samples+2*(2*i+1)) / (20 * samples)
		sum += (due + interval - 1).Truncate(interval)
	}
	return (sum / samples).Round(15 * time.Second)
}

// thousands writes a number for people.
func thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// A pod makes exchanges as often as the ceilings say.
func TestExchangeEvery(t *testing.T) {
	for _, interval := range []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour} {
		for _, session := range []time.Duration{time.Hour, 4 * time.Hour} {
			synctest.Test(t, func(t *testing.T) {
				exchanges, begun := 0, time.Now()
				source := identity.NewSource(identity.Provider{Get: func(context.Context) (identity.Credentials, error) {
					exchanges++
					return identity.Credentials{Credentials: openapi.Credentials{AccessKeyID: "STS.id"}, Expires: time.Now().Add(session)}, nil
				}}, nil, nil)
				for exchanges < 300 {
					if _, err := source.Credentials(t.Context()); err != nil {
						t.Fatal(err)
					}
					time.Sleep(interval - interval/10 + rand.N(interval/5+1))
				}
				every, want := time.Since(begun)/time.Duration(exchanges), exchangeEvery(interval, session)
				if ratio := float64(every) / float64(want); ratio < 0.94 || ratio > 1.06 {
					t.Errorf("refreshed every %s with sessions of %s: an exchange every %s, want %s", interval, session, every, want)
				}
			})
		}
	}
}
