// Command probe is what the tests of the cluster run in pods: it serves, fetches, resolves and waits.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: probe serve ADDRESS | get URL | resolve NAME | cat FILE | write FILE")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	switch command, arg := args[0], args[1]; command {
	case "serve": // until killed
		return http.ListenAndServe(arg, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s asked %s by the name %s", r.RemoteAddr, arg, r.Host)
		}))
	case "get":
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, arg, nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		_, err = io.Copy(os.Stdout, response.Body)
		return err
	case "resolve":
		addresses, err := net.DefaultResolver.LookupHost(ctx, arg)
		if err != nil {
			return err
		}
		fmt.Println(addresses)
		return nil
	case "cat":
		data, err := os.ReadFile(arg)
		fmt.Print(string(data))
		return err
	case "write":
		return os.WriteFile(arg, []byte("written by probe"), 0o644)
	default:
		return fmt.Errorf("no command %q", command)
	}
}
