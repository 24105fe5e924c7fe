package identity

import (
	"context"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// sourceOf returns a Source of what assume gets.
func sourceOf(assume func() (Credentials, error)) *Source {
	return NewSource(Provider{Get: func(context.Context) (Credentials, error) { return assume() }}, nil, nil)
}

func source(p Provider, err error) (*Source, error) { return NewSource(p, nil, nil), err }

func accessKey(cfg AccessKey) (*Source, error) { return source(NewAccessKey(cfg)) }

func nodeRole(cfg NodeRole) (*Source, error) { return source(NewNodeRole(cfg), nil) }

func open(kind config.IdentityKind, getenv func(string) string, sts STS) (*Source, error) {
	return source(Open(kind, getenv, sts))
}
