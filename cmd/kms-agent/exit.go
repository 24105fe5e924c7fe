package main

import (
	"fmt"
	"os"
	"strings"
)

const (
	exitFailed = 1
	exitMisuse = 2
	// exitAgain is EX_TEMPFAIL of sysexits.h: the same may succeed later.
	exitAgain = 75
)

const commands = "init, run, ready, status, exec, get, token, agent, version or help"

const usage = `kms-agent gives a pod its secrets from Alibaba Cloud KMS. The webhook puts it into pods:

  kms-agent init      writes the files and exits
  kms-agent run       keeps them fresh until SIGTERM
  kms-agent ready [--wait]   exits with 0 if the files are there, or waits until they are
  kms-agent exec [--env-file=PATH] -- COMMAND...   becomes the command, with the pod's variables in its environment
  kms-agent status [--probe]   prints which versions the files have, what failed, and whether STS and KMS give the secrets now; no value
  kms-agent version   prints the version

KMS_AGENT_CONFIG is its configuration, and the ALIBABA_CLOUD_* variables of RRSA are its identity. Without the webhook:

  kms-agent agent [--token-file=PATH] <config.toml>   serves the local API until SIGTERM
  kms-agent token <path>                              writes a token for it
  kms-agent get <secretId>                            asks it and prints the value

Exit codes: 0 done; 1 the files could not be written, or are not there; 2 wrong call or configuration; 75 as 1, but STS or KMS
could not be reached or was throttled, or the agent was told to end, so that the same may succeed later. Those of exec are the
command's, or 125 without the variables, 126 if the command cannot be run and 127 if there is none.
`

const (
	// terminationLog is where the kubelet reads a container's last words, for kubectl describe.
	terminationLog = "/dev/termination-log"
	// maxTermination is what the kubelet keeps of them, in bytes.
	maxTermination = 4096
)

// terminated writes to path if it exists, as it does in a container only.
func terminated(path, text string) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return
	}
	defer file.Close()
	fmt.Fprint(file, terminationMessage(text))
}

// terminationMessage cuts a text to what the kubelet keeps.
func terminationMessage(text string) string {
	if len(text) <= maxTermination {
		return text
	}
	const more = "\n… (more in the container's log)"
	return strings.ToValidUTF8(text[:maxTermination-len(more)], "") + more
}
