package agent

import (
	"cmp"
	"context"
	"fmt"
	"sort"

	"github.com/kms-agent-injector/kms-agent-injector/agent/handover"
	"github.com/kms-agent-injector/kms-agent-injector/agent/inventory"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// Status is what the pod's agent holds, by what it remembers.
func Status(doc config.Agent) (inventory.Status, error) {
	held, err := loadSnapshot(doc.StateDir)
	if err != nil {
		return inventory.Status{Secrets: []inventory.Secret{}}, fmt.Errorf("the agent holds no secrets yet: %w", err)
	}
	out := held.inventory()
	var saved savedRound
	if handover.Read(doc.StateDir, roundFile, &saved) == nil { // there is none before the sidecar's first refresh is planned
		out.Interval, out.Next = saved.Interval, saved.Next
	}
	return out, nil
}

func (s snapshot) inventory() inventory.Status {
	out := inventory.Status{Fetched: s.at.UTC(), Secrets: []inventory.Secret{}}
	for ref, v := range s.values {
		secret := inventory.Secret{Name: ref.Name, RoleARN: ref.RoleARN}
		if v.absent != nil {
			secret.Version, secret.Absent = ref.VersionID, v.absent.Code
		} else {
			secret.Version, secret.Stages = v.secret.VersionID, v.secret.Stages
		}
		out.Secrets = append(out.Secrets, secret)
	}
	// Not slices.SortFunc, which is 15 kB of program for each type that it sorts.
	sort.Slice(out.Secrets, func(i, j int) bool {
		a, b := out.Secrets[i], out.Secrets[j]
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.RoleARN, b.RoleARN), cmp.Compare(a.Version, b.Version)) < 0
	})
	return out
}

// Probe asks STS and KMS for everything that the pod declares, now, and says what stood in the way, explained; nil is nothing.
// What they answer is thrown away.
func (a *Agent) Probe(ctx context.Context) []string {
	got := values{}
	err := a.fetch(ctx, got)
	if err == nil {
		_, err = a.render(got) // says which absent secret the pod cannot do without
	}
	if err == nil {
		return nil
	}
	var problems []string
	for _, leaf := range leaves(err) {
		problems = append(problems, a.Explain(leaf))
	}
	return problems
}
