// Package emulator answers as Alibaba Cloud's STS and KMS do, on the wire, so that the real SDKs talk to it unchanged.
package emulator
