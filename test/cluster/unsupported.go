//go:build !linux

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
)

var errUnsupported = fmt.Errorf("a cluster needs Linux, for namespaces, mounts and cgroups, and this is %s: "+
	"set KUBECONFIG to a cluster that exists, or use a Linux machine: %w",
	runtime.GOOS, errors.ErrUnsupported)

// Reexec does nothing.
func Reexec() {}

// Build cannot work here.
func Build(context.Context, Options) error { return errUnsupported }

// Up cannot work here.
func Up(context.Context, Options) (*Cluster, error) { return nil, errUnsupported }

// Open cannot work here.
func Open(string) (*Cluster, error) { return nil, errUnsupported }

// Down cannot work here.
func Down(context.Context, Options) error { return errUnsupported }

// Healthy cannot work here.
func (c *Cluster) Healthy(context.Context) error { return errUnsupported }

// LoadImages cannot work here.
func (c *Cluster) LoadImages(context.Context, ...string) error { return errUnsupported }

// EtcdDump cannot work here.
func (c *Cluster) EtcdDump(context.Context, io.Writer) error { return errUnsupported }

// LoadCertManager cannot work here.
func (c *Cluster) LoadCertManager(context.Context, io.Writer) (string, error) {
	return "", errUnsupported
}
