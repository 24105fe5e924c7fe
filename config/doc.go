// Package config is the three documents that everything else is written against: Spec, what a pod's annotations ask for;
// Agent, what an injected agent is told; and Injector, what the operator of the cluster allows and defaults.
//
// It imports the standard library and one YAML library, because the agent, which every injected pod pays for, links it.
package config
