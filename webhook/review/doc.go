// Package review is the HTTP handler that reads AdmissionReviews and answers them, whatever bytes it gets; what it says is decided
// elsewhere. It is apart from package webhook, which talks to Kubernetes, so that it builds quickly where it is fuzzed.
package review
