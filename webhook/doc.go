// Package webhook answers the API server's admission requests: pods get what package injector plans for them, and workloads
// whose pods would be refused are refused where a person sees it.
//
// A request ends in one of three ways: the author's mistake is a denial that says what to change, an outage of ours is error
// 500, and so is a bug of ours, whose panic ends the request and nothing else. No pod, patch or token is logged.
package webhook
