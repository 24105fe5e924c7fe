// Package status describes the secrets in an agent's files: names, versions, times and problems, never a value.
package status

import (
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// A Status is the output of kms-agent status and the termination message of kms-agent init. An agent saves it in its state directory.
// It leaves out values that were fetched and could not be written.
type Status struct {
	Fetched time.Time `json:"fetched,omitzero"` // when KMS gave the oldest of what the files are made of; zero: there are no files
	Secrets []Secret  `json:"secrets"`          // that the files are made of
	// Interval is the present time between two refreshes: the pod's, or longer while STS or KMS throttles calls. 0: the agent does not
	// refresh.
	Interval config.Duration `json:"interval,omitzero"`
	Next     time.Time       `json:"next,omitzero"` // when the agent asks STS and KMS next
	// LastError is why the last attempt failed; nil if it succeeded.
	LastError *Failure `json:"lastError,omitempty"`
	// Notifications has an entry for each target of on-change. An agent older than this field has none.
	Notifications []Notification `json:"notifications,omitempty"`
	Warnings      []string       `json:"warnings,omitempty"` // about what works, and may not after a change
	Problems      []string       `json:"problems,omitempty"` // why nothing is held, or what STS and KMS said when they were asked just now
	// Causes are the single Problems, in their order. An agent older than this field has none.
	Causes []Problem `json:"causes,omitempty"`
	// Asked are the secrets that a probe fetched from KMS. An agent older than this field has none.
	Asked []string `json:"asked,omitempty"`
}

// A Secret is one that the files are made of.
type Secret struct {
	Name    string    `json:"name"` // or ARN
	Version string    `json:"version,omitempty"`
	Written time.Time `json:"written,omitzero"` // when the files got this version
	Stages  []string  `json:"stages,omitempty"`
	RoleARN string    `json:"roleArn,omitempty"` // the second role that reads it
	Absent  string    `json:"absent,omitempty"`  // what KMS said instead of giving it
}

// A Failure is an attempt to bring the files up to date that did not succeed.
type Failure struct {
	At       time.Time `json:"at"`
	Attempts int       `json:"attempts"` // that have failed since the last success
	Causes   []Problem `json:"causes"`
}

// A Notification is the last one to a target of on-change.
type Notification struct {
	Target   string    `json:"target"`
	Changed  time.Time `json:"changed,omitzero"`  // when; zero: nothing has changed yet
	Secrets  []Secret  `json:"secrets,omitempty"` // in the versions of that change
	Told     time.Time `json:"told,omitzero"`     // zero: not yet
	Attempts int       `json:"attempts,omitempty"`
	Failure  string    `json:"failure,omitempty"` // of the last attempt
}

// Untold reports whether the notification was tried and has not succeeded.
func (n Notification) Untold() bool { return n.Told.IsZero() && n.Failure != "" }

// A Link is a part of the chain from a pod's token to its files.
type Link string

// The links that an agent can find broken.
const (
	Token    Link = "token"         // the pod's projected ServiceAccount token
	Provider Link = "oidc-provider" // RAM's OIDC identity provider
	STS      Link = "sts"
	KMS      Link = "kms"
	Files    Link = "files" // all else: rendering, the volume
)

// A Problem is one cause of a failure.
type Problem struct {
	Link   Link   `json:"link"`
	Secret string `json:"secret,omitempty"` // name or ARN, of KMS
	Code   string `json:"code,omitempty"`   // the cloud's own
	Says   string `json:"says"`             // the error
	Cause  string `json:"cause,omitempty"`  // why, where it is known
	Cure   string `json:"cure,omitempty"`   // what to change
}

// The beginnings of a paragraph's lines, after the first.
const (
	linkLine  = "\n  link: "
	causeLine = "\n  why: "
	cureLine  = "\n  fix: "
)

// String returns a paragraph for people.
func (p Problem) String() string {
	if p.Cause == "" {
		return p.Says
	}
	return p.Says + causeLine + p.Cause + cureLine + p.Cure
}

// Text returns the problems as a termination message: a paragraph each, which names the link.
func Text(problems []Problem) string {
	paragraphs := make([]string, len(problems))
	for i, p := range problems {
		link := string(p.Link)
		if p.Secret != "" {
			link += " " + p.Secret
		}
		paragraphs[i] = p.Says + linkLine + link + strings.TrimPrefix(p.String(), p.Says)
	}
	return strings.Join(paragraphs, "\n")
}

// ReadText parses the result of Text, without the Codes. A Problem has no link if its paragraph names none, because an older agent
// wrote it or it was cut.
func ReadText(text string) []Problem {
	var problems []Problem
	var paragraph strings.Builder
	end := func() {
		if paragraph.Len() > 0 {
			problems = append(problems, readParagraph(paragraph.String()))
			paragraph.Reset()
		}
	}
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		if !strings.HasPrefix(line, "  ") {
			end()
		} else {
			paragraph.WriteByte('\n')
		}
		paragraph.WriteString(line)
	}
	end()
	return problems
}

func readParagraph(text string) (p Problem) {
	text, p.Cure, _ = strings.Cut(text, cureLine)
	text, p.Cause, _ = strings.Cut(text, causeLine)
	says, link, _ := strings.Cut(text, linkLine)
	name, secret, _ := strings.Cut(link, " ")
	p.Says, p.Link, p.Secret = says, Link(name), secret
	return p
}
