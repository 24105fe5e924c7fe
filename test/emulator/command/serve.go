package command

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/authority"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/control"
)

const (
	// graceful is how long requests may go on after the program was told to end.
	graceful      = 5 * time.Second
	headerTimeout = 10 * time.Second
)

type serveOptions struct {
	config, listen, controlListen, metadataListen, caDir, instanceCADir, logFormat string
}

func serveCommand(flags *flag.FlagSet) runner {
	var o serveOptions
	flags.StringVar(&o.config, "config", "", "`file` that describes the cloud (required)")
	flags.StringVar(&o.caDir, "ca-dir", "", "`folder` with ca.crt and ca.key, as made by \"kms-emulator ca\" (required)")
	flags.StringVar(&o.listen, "listen", ":8443", "`address` of STS and KMS, over TLS")
	flags.StringVar(&o.controlListen, "control-listen", "127.0.0.1:8090", "`address` of the control API, over plain HTTP")
	flags.StringVar(&o.instanceCADir, "instance-ca-dir", "",
		"`folder` like --ca-dir with the private authority of KMS instances' gateways; default: the same authority")
	flags.StringVar(&o.metadataListen, "metadata-listen", "", "`address` of the node's metadata service, over plain HTTP; default: nowhere")
	flags.StringVar(&o.logFormat, "log-format", "json", "json or text")
	return func(ctx context.Context, s Streams, _ []string) error { return serve(ctx, s, o) }
}

func serve(ctx context.Context, s Streams, o serveOptions) error {
	log, err := newLogger(s.Err, o.logFormat)
	if err != nil {
		return err
	}
	if o.config == "" || o.caDir == "" {
		return errors.New("serve: --config and --ca-dir are required")
	}
	config, err := emulator.LoadConfig(o.config)
	if err != nil {
		return err
	}
	cloud, err := emulator.New(config, emulator.WithLogger(log))
	if err != nil {
		return fmt.Errorf("configuration %s: %w", o.config, err)
	}
	certificates, err := loadAuthorities(o)
	if err != nil {
		return err
	}
	// One server for each listener: a server that serves both TLS and plain text races on its HTTP/2 set-up.
	servers := []struct {
		name, address string
		handler       http.Handler
		tls           *tls.Config
		listener      net.Listener
	}{
		{name: "STS and KMS", address: o.listen, handler: cloud, tls: &tls.Config{GetCertificate: certificates}},
		{name: "the control API", address: o.controlListen, handler: control.Handler(cloud)},
		{name: "the metadata service", address: o.metadataListen, handler: cloud.Metadata()},
	}
	addresses := make([]string, len(servers))
	for i := range servers {
		s := &servers[i]
		if s.address == "" { // there need be no metadata service
			continue
		}
		if s.listener, err = net.Listen("tcp", s.address); err != nil {
			return fmt.Errorf("listen for %s: %w", s.name, err) // the other listeners end with the process
		}
		addresses[i] = s.listener.Addr().String()
	}
	log.Info("serving", "address", addresses[0], "control", addresses[1], "metadata", addresses[2],
		"roles", len(cloud.Roles()), "secrets", len(cloud.Secrets()))

	group, ctx := errgroup.WithContext(ctx)
	for _, s := range servers {
		if s.listener == nil {
			continue
		}
		server := &http.Server{
			Handler:           s.handler,
			TLSConfig:         s.tls,
			ReadHeaderTimeout: headerTimeout,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		}
		group.Go(func() (err error) {
			if s.tls != nil {
				err = server.ServeTLS(s.listener, "", "")
			} else {
				err = server.Serve(s.listener)
			}
			if !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
		group.Go(func() error {
			<-ctx.Done()
			cloud.ClearFaults() // lets hanging calls go
			limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), graceful)
			defer cancel()
			if err := server.Shutdown(limit); err != nil {
				return server.Close()
			}
			return nil
		})
	}
	return group.Wait()
}

// loadAuthorities loads the authority that signs for each host name: KMS instances have a private authority of their own.
func loadAuthorities(o serveOptions) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
	public, err := authority.Load(o.caDir)
	if err != nil {
		return nil, err
	}
	private := public
	if o.instanceCADir != "" {
		if private, err = authority.Load(o.instanceCADir); err != nil {
			return nil, err
		}
	}
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if strings.HasSuffix(hello.ServerName, ".cryptoservice.kms.aliyuncs.com") {
			return private.GetCertificate(hello)
		}
		return public.GetCertificate(hello)
	}, nil
}

func newLogger(w io.Writer, format string) (*slog.Logger, error) {
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, nil)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, nil)), nil
	}
	return nil, fmt.Errorf("--log-format %q: want json or text", format)
}

func caCommand(flags *flag.FlagSet) runner {
	dir := flags.String("dir", ".", "`folder` for ca.crt and ca.key; an authority that is there already is kept")
	return func(_ context.Context, s Streams, _ []string) error {
		_, err := authority.Load(*dir)
		if err == nil {
			fmt.Fprintf(s.Out, "%s has a certificate authority already\n", *dir)
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		ca, err := authority.New()
		if err != nil {
			return err
		}
		if err := ca.Save(*dir); err != nil {
			return fmt.Errorf("save certificate authority: %w", err)
		}
		fmt.Fprintf(s.Out, "made %s and %s in %s\n", authority.CertFile, authority.KeyFile, *dir)
		return nil
	}
}
