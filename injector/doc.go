// Package injector decides what a pod needs to get its KMS secrets and says it as RFC 6902 add operations over the pod's own
// JSON.
//
// Its rules: it only adds, so that what it does not know survives; what exists under one of its names stays, so that twice is
// once; and equal input gives equal bytes. It reads no clock, no file and no network.
package injector
