// Package config has the names, kinds and errors that three documents share: what a pod asks for (podconfig), what the administrator of
// the cluster allows (clusterconfig), and what an agent is told (agentconfig).
package config
