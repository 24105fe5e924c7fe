//go:build !linux

package main

import "syscall"

// keepMemoryPrivate has the kernel write no core dump of this process. Pods run on Linux; elsewhere is where people try the agent.
func keepMemoryPrivate() { _ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) }
