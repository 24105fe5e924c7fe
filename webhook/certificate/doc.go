// Package certificate keeps the serving certificate of an admission webhook, and its clients' trust in it, so that its rotation
// drops no request.
package certificate
