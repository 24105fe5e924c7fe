// Command aliyun stands in for Alibaba Cloud's command line interface where the documents are tested, which may be a machine that
// cannot have the real one. It knows the CLI's RPC mode,
//
//	aliyun <product> <Api> --Name value …
//
// for the few operations that the documents show, with the names and the rules of the CLI's own metadata (api.go). Like the CLI
// it takes credentials and region from the environment, finds the product's public endpoint by itself, refuses an operation or a
// parameter that it does not know before it calls, signs as the CLI does (HMAC-SHA1, among the parameters), prints the answer as JSON,
// and ends with 1 and the cloud's code on an error. The calls are made by Alibaba Cloud's SDK; which cloud answers is for HTTPS_PROXY
// and SSL_CERT_FILE to say, as it would be for the CLI. Profiles, global flags, REST products, plugins and help it does not have.
package main

import (
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Stdout, os.Args[1:], os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "ERROR:", err)
		os.Exit(1)
	}
}

func run(stdout io.Writer, args []string, getenv func(string) string) error {
	c, err := parse(args)
	if err != nil {
		return err
	}
	p, err := profileOf(getenv)
	if err != nil {
		return err
	}
	answer, err := c.send(p)
	if err != nil {
		return err
	}
	return show(stdout, answer)
}
