package injector

import "k8s.io/apimachinery/pkg/util/version"

// nativeSince is the first API server beside which every kubelet must be 1.29 or newer, the first that runs native sidecars
// unasked: https://kubernetes.io/releases/version-skew-policy/#kubelet
var nativeSince = version.MajorMinor(1, 32)

// NativeBeside reports whether every kubelet that an API server may have beside it runs native sidecars.
func NativeBeside(server string) (bool, error) {
	v, err := version.ParseGeneric(server)
	if err != nil {
		return false, err
	}
	return v.AtLeast(nativeSince), nil
}
