// Package inventory is what an agent tells people of the secrets that it holds: names, versions and times, never a value.
package inventory

import (
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// A Status is what kms-agent status prints, and what kms-agent init leaves as its termination message.
type Status struct {
	Fetched time.Time `json:"fetched,omitzero"` // when KMS gave the oldest of what the files are made of
	Secrets []Secret  `json:"secrets"`
	// Interval is the time between two refreshes at present: as the pod asks for, or longer while STS or KMS refuses calls because there
	// are too many. 0 of an agent that does not refresh.
	Interval config.Duration `json:"interval,omitzero"`
	Next     time.Time       `json:"next,omitzero"`      // when the agent asks STS and KMS next
	Problems []string        `json:"problems,omitempty"` // why nothing is held, or what STS and KMS said when they were asked just now
}

// A Secret is one that is held.
type Secret struct {
	Name    string   `json:"name"` // or ARN
	Version string   `json:"version,omitempty"`
	Stages  []string `json:"stages,omitempty"`
	RoleARN string   `json:"roleArn,omitempty"` // the second role that reads it
	Absent  string   `json:"absent,omitempty"`  // what KMS said instead of giving it
}
