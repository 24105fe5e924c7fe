// Command install writes the kustomizations of the emulator and the webhook, and values for kms-sync's chart. Webhook and kms-sync call the
// emulator and trust its certificate authority:
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

// values fill in the templates.
type values struct {
	Issuer    string // of the cluster's ServiceAccount tokens
	Direct    bool   // call the emulator by its Service's name, because the cluster's DNS does not resolve aliyuncs.com to it
	Manifests string // path of deploy/manifests, relative to the webhook's kustomization

	ClientKeyID, ClientKeyCertificate string // of the emulated KMS instance

	Authority string // PEM of the emulator's certificate authority
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
		"call the emulator by its Service's name, for a cluster whose DNS does not resolve aliyuncs.com to it")
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

// clientKey reads the client key in dir, or creates one. Tests make a Secret of the files.
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

// authority reads the certificate authority in dir, which running agents trust, or creates one.
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

// relative returns the path of the folder to as a kustomization in from names it: kustomize refuses absolute paths.
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
