//go:build linux

// Package node runs the cluster's node: private namespaces, and a PID 1 that supervises the node's programs.
package node

// Paths inside the namespaces do not depend on the state directory, so configurations contain no paths of the machine, and
// names of Unix sockets stay below Linux's limit of 107 bytes.
const (
	stateDir      = "/run/cluster"
	kubernetesDir = "/run/programs/kubernetes"
	containerdDir = "/run/programs/containerd"

	// ContainerdSocket is containerd's, as seen inside. From outside it is reached through /proc/PID/root.
	ContainerdSocket = "/run/containerd/containerd.sock"
)

// Names and addresses of the one node. Its network namespace is its own, so they collide with nothing.
const (
	Name          = "kms-cluster"
	Address       = "10.244.0.1" // of the node, the API server's endpoint and the DNS server: the pods' bridge
	bridge        = "pods"
	podNetwork    = "10.244.0.0/24"
	ServiceRange  = "10.96.0.0/16"
	APIServerPort = "6443"
	// KubernetesService is the address that Kubernetes gives to the Service "kubernetes": the first of ServiceRange.
	KubernetesService = "10.96.0.1"
	// Issuer is the issuer of service account tokens, as a relying party in the cluster knows it.
	Issuer = "https://kubernetes.default.svc.cluster.local"
)

// Directories below the state directory.
const (
	ConfDir = "conf" // rendered configurations
	PKIDir  = "pki"  // keys, certificates and the components' kubeconfigs
	LogDir  = "log"  // one file per component, and the supervisor's, node.log
	EtcdDir = "etcd"
)

// stateMounts are where the node's big directories are looked for, and the state directory's part they are.
var stateMounts = map[string]string{
	"/var/lib/containerd": "containerd",
	"/var/lib/kubelet":    "kubelet",
	"/var/log/pods":       LogDir + "/pods",
}

// Dirs returns the directories that must exist below the state directory before Start.
func Dirs() []string {
	dirs := []string{ConfDir + "/cni", PKIDir, LogDir, EtcdDir}
	for _, dir := range stateMounts {
		dirs = append(dirs, dir)
	}
	return dirs
}

// Layout is what the components' configurations say about the node.
type Layout struct {
	NodeName, Address, Bridge, PodNetwork            string
	ConfDir, PKIDir, ContainerdDir, ContainerdSocket string
}

// TheLayout is every node's.
var TheLayout = Layout{
	NodeName: Name, Address: Address, Bridge: bridge, PodNetwork: podNetwork,
	ConfDir: stateDir + "/" + ConfDir, PKIDir: stateDir + "/" + PKIDir,
	ContainerdDir: containerdDir, ContainerdSocket: ContainerdSocket,
}
