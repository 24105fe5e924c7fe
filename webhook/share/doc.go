// Package share divides what a server has among callers that it does not know: connections, memory and look-ups. Each source (an
// IP address) has a part of its own, so that a caller who takes all that it can get locks out no caller at another address; a limit
// that is reached makes callers wait before it refuses them.
package share
