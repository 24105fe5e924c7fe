// Package emulator answers as Alibaba Cloud's STS and KMS do, on the wire, so that the real SDKs talk to it unchanged.
//
// It knows STS AssumeRoleWithOIDC and AssumeRole; KMS GetSecretValue on the shared gateway and, by the OpenAPI's and its
// own protocol, on that of a KMS instance, BatchGetSecretValue on the former alone; and the metadata service that gives a
// node its role. Tokens, signatures, sessions and the policies of RAM are checked as the cloud checks them, and refusals
// have its codes; where a fact could not be confirmed the code says UNVERIFIED. The configuration is a YAML file:
// example.yaml shows all of it. Tests change roles and secrets through the methods of Emulator or, in another process,
// through package control.
package emulator
