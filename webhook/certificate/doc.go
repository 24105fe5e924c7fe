// Package certificate keeps the serving certificate of an admission webhook, and its clients' trust in it, so that its rotation
// drops no request.
//
// It has two sides, for two processes with different rights: a Source reads the certificate that a listener serves, and a Keeper
// writes certificates and what is trusted.
package certificate
