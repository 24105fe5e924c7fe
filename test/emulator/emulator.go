// Package emulator answers as Alibaba Cloud's STS and KMS do, on the wire, so that the real SDKs talk to it unchanged.
//
// It knows STS AssumeRoleWithOIDC and AssumeRole; KMS GetSecretValue on the shared gateway and, by the OpenAPI's and its
// own protocol, on that of a KMS instance, BatchGetSecretValue on the former alone; and the metadata service that gives a
// node its role. Tokens, signatures, sessions and the policies of RAM are checked as the cloud checks them, and refusals
// have its codes; where a fact could not be confirmed the code says UNVERIFIED. The configuration is a YAML file:
// example.yaml shows all of it. Tests change roles and secrets through the methods of Emulator or, in another process,
// through package control.
package emulator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Emulator is an emulated cloud: an http.Handler for what SDKs send, and methods that control it.
// It is safe for concurrent use.
type Emulator struct {
	clock    func() time.Time
	log      *slog.Logger
	defaults defaults

	ram      directory
	vault    vault
	sessions sessions
	nonces   nonces
	calls    tally
	faults   faults
	metadata metadata

	node      string              // ARN of the node's role, if any
	instances map[string]instance // by ID
}

// Option changes how an Emulator works.
type Option func(*Emulator)

// WithClock sets what time it is in the cloud. Default: time.Now.
func WithClock(now func() time.Time) Option { return func(e *Emulator) { e.clock = now } }

// WithLogger sets where requests are logged, one line each, without tokens or values. Default: nowhere.
func WithLogger(log *slog.Logger) Option { return func(e *Emulator) { e.log = log } }

// New makes a cloud of the configuration. It reports all mistakes in it together.
func New(config Config, options ...Option) (*Emulator, error) {
	e := &Emulator{
		clock:    time.Now,
		log:      slog.New(slog.DiscardHandler),
		ram:      newDirectory(),
		vault:    vault{secrets: map[string]Secret{}},
		sessions: sessions{byKey: map[string]session{}, byToken: map[string]string{}},
		nonces:   nonces{used: map[string]time.Time{}},
		calls:    tally{counts: map[Call]int{}},

		instances: map[string]instance{},
	}
	for _, option := range options {
		option(e)
	}
	var err error
	if e.defaults, err = config.defaults(); err != nil {
		return nil, err
	}
	if err := e.load(config); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *Emulator) load(config Config) error {
	var errs []error
	for _, in := range config.OIDCProviders {
		arn, provider, err := newProvider(in, e.defaults)
		errs = append(errs, err, unique("OIDC provider", arn, e.ram.providers))
		e.ram.providers[arn] = provider
	}
	for _, in := range config.Roles {
		r, err := newRole(in, e.defaults)
		errs = append(errs, err, unique("role", r.arn, e.ram.roles))
		e.ram.roles[r.arn] = r
	}
	for _, in := range config.Users {
		errs = append(errs, e.ram.addUser(in, e.defaults))
	}
	if config.Node.Role != "" {
		e.node = roleARN(config.Node.Role, e.defaults.account)
		if _, ok := e.ram.role(e.node); !ok {
			errs = append(errs, fmt.Errorf("node: there is no role %s", e.node))
		}
	}
	for _, in := range config.Instances {
		i, err := newInstance(in, e.defaults)
		errs = append(errs, err, unique("KMS instance", in.ID, e.instances))
		e.instances[in.ID] = i
	}
	for _, in := range config.Secrets {
		errs = append(errs, in.complete(e.defaults, e.clock()), unique("secret", in.arn(), e.vault.secrets))
		e.vault.secrets[in.arn()] = in
	}
	return errors.Join(errs...)
}

// unique refuses an ARN that is taken. Entries that have a mistake of their own have none yet.
func unique[T any](kind, arn string, taken map[string]T) error {
	if _, again := taken[arn]; again && arn != "" {
		return fmt.Errorf("%s %s is listed twice", kind, arn)
	}
	return nil
}

// operation is one API of one service.
type operation struct {
	signed bool // refused without the signature of a session
	serve  func(*Emulator, context.Context, *call) (any, *problem)
}

// service is a product as error bodies name it.
type service string

const (
	sts service = "Sts"
	kms service = "Kms"
)

// versions are the only API versions of each service.
var versions = map[service]string{sts: "2015-04-01", kms: "2016-01-20"}

// operations is all that the emulator can do.
var operations = map[service]map[string]operation{
	sts: {
		"AssumeRoleWithOIDC": {serve: (*Emulator).assumeRoleWithOIDC},
		"AssumeRole":         {serve: (*Emulator).assumeRole, signed: true},
	},
	kms: {
		"GetSecretValue":      {serve: (*Emulator).getSecretValue, signed: true},
		"BatchGetSecretValue": {serve: (*Emulator).batchGetSecretValue, signed: true},
	},
}
