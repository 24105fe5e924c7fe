// Package logkey lists the keys of the agent's log lines.
package logkey

// The keys, in the order of the alphabet.
const (
	Address  = "address"
	Attempt  = "attempt"
	Before   = "before"   // a version
	Code     = "code"     // of a refusal
	Command  = "command"  // of kms-agent
	Error    = "error"    // what failed, why, and what to change
	Failures = "failures" // in a row
	Fetched  = "fetched"  // when KMS gave the values
	Files    = "files"
	In       = "in"       // the wait before the next attempt
	Interval = "interval" // between two refreshes
	KMS      = "kms"      // the host
	LogPath  = "logPath"
	Name     = "name" // of a process
	Path     = "path" // of a request
	Secret   = "secret"
	Secrets  = "secrets"
	Status   = "status" // of HTTP
	Target   = "target" // of a notification
	Took     = "took"
	Version  = "version"
)
