// Command install writes what puts the emulator, and programs that trust it, into a cluster: the kustomizations of the emulator and the
// webhook, and the values of kms-sync's chart:
//
//	go run ./test/install -dir DIR -issuer ISSUER
//	kubectl apply -k DIR/emulator
//	kubectl apply -k DIR/webhook
//	helm install kms-sync deploy/chart/kms-sync --values DIR/kms-sync/values.yaml
package main

import (
	"embed"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/authority"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/clientkey"
)

//go:embed emulator kms-sync webhook
var templates embed.FS

// values are what the templates need to know of the cluster.
type values struct {
	Issuer    string // of the cluster's ServiceAccount tokens
	Direct    bool   // the cluster's DNS does not answer aliyuncs.com: call the emulator's Service by its own name
	Manifests string // deploy/manifests, as seen from the webhook's kustomization

	ClientKeyID, ClientKeyCertificate string // that the emulated KMS instance knows

	Authority string // certificate of the emulator's authority, PEM
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "install:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("install", flag.ContinueOnError)
	dir := flags.String("dir", "", "folder to write")
	manifests := flags.String("manifests", "deploy/manifests", "folder of the webhook's manifests")
	var v values
	flags.StringVar(&v.Issuer, "issuer", "", "issuer of the cluster's ServiceAccount tokens")
	flags.BoolVar(&v.Direct, "direct", false,
		"call the emulator by its Service's name, for a cluster whose DNS does not answer aliyuncs.com with it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *dir == "" || v.Issuer == "" {
		return errors.New("-dir and -issuer are needed; kubectl get --raw /.well-known/openid-configuration shows the issuer")
	}
	var err error
	if v.Manifests, err = relative(filepath.Join(*dir, "webhook"), *manifests); err != nil {
		return err
	}
	if err := v.clientKey(filepath.Join(*dir, "client-key")); err != nil {
		return err
	}
	if err := v.authority(filepath.Join(*dir, "emulator")); err != nil {
		return err
	}
	return write(*dir, v)
}

// clientKey makes a client key, for a Secret out of the files in dir, or takes the one that is there.
func (v *values) clientKey(dir string) error {
	files := map[string][]byte{"clientKey": nil, "password": nil, "id": nil, "certificate": nil}
	var missing error
	for name := range files {
		content, err := os.ReadFile(filepath.Join(dir, name))
		missing = errors.Join(missing, err)
		files[name] = content
	}
	if missing != nil {
		key, err := clientkey.New(time.Now().AddDate(1, 0, 0))
		if err != nil {
			return err
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		files = map[string][]byte{"clientKey": key.JSON, "password": []byte(key.Password), "id": []byte(key.ID), "certificate": key.Certificate}
		for name, content := range files {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				return err
			}
		}
	}
	v.ClientKeyID = string(files["id"])
	v.ClientKeyCertificate = strings.ReplaceAll(strings.TrimSpace(string(files["certificate"])), "\n", "\n        ")
	return nil
}

// authority makes a certificate authority in dir, or takes the one that is there: agents that run already trust it.
func (v *values) authority(dir string) error {
	a, err := authority.Load(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if a, err = authority.New(); err == nil {
			err = a.Save(dir)
		}
	}
	if err != nil {
		return err
	}
	v.Authority = string(a.PEM())
	return nil
}

// relative is how a kustomization in from names the folder to: kustomize takes no absolute path.
func relative(from, to string) (string, error) {
	from, err := filepath.Abs(from)
	if err != nil {
		return "", err
	}
	if to, err = filepath.Abs(to); err != nil {
		return "", err
	}
	return filepath.Rel(from, to)
}

func write(dir string, v values) error {
	return fs.WalkDir(templates, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(dir, name)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		t, err := template.New(filepath.Base(name)).Option("missingkey=error").ParseFS(templates, name)
		if err != nil {
			return err
		}
		file, err := os.Create(target)
		if err != nil {
			return err
		}
		return errors.Join(t.Execute(file, v), file.Close())
	})
}
