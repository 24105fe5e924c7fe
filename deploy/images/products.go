package main

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
)

// module is the import path that the commands are below.
const module = "github.com/kms-agent-injector/kms-agent-injector"

// devTag marks images that are built from a working copy. Their binaries carry no commit, so that a commit that does not touch
// the code leaves them as they are.
const devTag = "dev"

// A product is one image: a command of this module, or the demonstration's application.
type product struct {
	name        string
	pkg         string // below the module; "" is the demonstration's application
	description string
	optional    bool // built only when its name is given
}

const demoApp = "demo-app"

var products = []product{
	{name: "kms-webhook", pkg: "cmd/kms-webhook", description: "Admission webhook that gives annotated pods their KMS secrets"},
	{name: "kms-agent", pkg: "cmd/kms-agent", description: "Fetches and refreshes a pod's KMS secrets"},
	{name: "kms-emulator", pkg: "cmd/kms-emulator", description: "Answers as Alibaba Cloud's STS and KMS do, for tests only"},
	{name: demoApp, description: "An application with a shell to look at its files with, for demonstrations and tests", optional: true},
	{name: "otherwebhook", pkg: "test/otherwebhook", description: "Another mutating webhook, for tests of the order in which they run", optional: true},
}

func names(of []product) []string {
	var out []string
	for _, p := range of {
		out = append(out, p.name)
	}
	return out
}

// choose returns the named products in their own order; without names those that are not optional.
func choose(wanted []string) ([]product, error) {
	for _, w := range wanted {
		if !slices.Contains(names(products), w) {
			return nil, fmt.Errorf("there is no image %q; the images are %s", w, strings.Join(names(products), ", "))
		}
	}
	var out []product
	for _, p := range products {
		if slices.Contains(wanted, p.name) || (len(wanted) == 0 && !p.optional) {
			out = append(out, p)
		}
	}
	return out, nil
}

// A platform is what an image runs on.
type platform struct{ os, arch string }

func (p platform) String() string { return p.os + "/" + p.arch }

// hostPlatform is what a Linux container runs on here.
var hostPlatform = platform{"linux", runtime.GOARCH}

func parsePlatforms(list string) ([]platform, error) {
	var out []platform
	for one := range strings.SplitSeq(list, ",") {
		os, arch, ok := strings.Cut(strings.TrimSpace(one), "/")
		if !ok || os != "linux" || arch == "" || strings.Contains(arch, "/") {
			return nil, fmt.Errorf("%q is not a platform; write for example linux/amd64", one)
		}
		if p := (platform{os, arch}); !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out, nil
}
