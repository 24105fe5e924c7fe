// Package exec is kms-agent exec: it turns the process into a container's own command, with variables that are in no pod spec.
package exec

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/kms-agent-injector/kms-agent-injector/agent/atomicfile"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

// The exit codes of a command that did not start: those of shells, and of env(1) for failures of kms-agent exec itself.
const (
	ExitFailed    = 125 // the variables could not be had
	ExitCannotRun = 126 // the command is there and cannot be run
	ExitNotFound  = 127 // there is no such command
)

const usage = "write kms-agent exec [--env-file=PATH] -- COMMAND [ARGUMENT…]"

// Exec runs the command line [--env-file=PATH] -- COMMAND [ARGUMENT…] in place of this process, which keeps its id, its files and
// its parent: signals, exit codes, standard input and the terminal are the command's own. It returns only if that is not
// possible, with the exit code that says why.
//
// The command is looked for in the PATH of environ. A variable of the file takes the place of one of that name in environ.
func Exec(args, environ []string) (int, error) {
	file, command, err := parse(args)
	if err != nil {
		return ExitFailed, err
	}
	variables, err := read(file)
	if err != nil {
		return ExitFailed, err
	}
	path, err := exec.LookPath(command[0])
	switch {
	case errors.Is(err, exec.ErrDot): // PATH has the working directory in it, which is the container's own business
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return ExitNotFound, fmt.Errorf("there is no command %s in the container; look at the container's command and its PATH", command[0])
	case err != nil:
		return ExitCannotRun, fmt.Errorf("the container's command cannot be run: %w", err)
	}
	err = syscall.Exec(path, command, merge(environ, variables))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ExitNotFound, fmt.Errorf("%s is there, but not the interpreter or the loader that it names", path)
	case errors.Is(err, syscall.E2BIG):
		return ExitCannotRun, fmt.Errorf("%s cannot be run with these variables: "+
			"one is longer than 128 KiB, or all are too long together; use files", path)
	}
	return ExitCannotRun, fmt.Errorf("the container's command %s cannot be run: %w", path, err)
}

func parse(args []string) (file string, command []string, err error) {
	file = config.DefaultSecretsDir + "/" + agentconfig.EnvFile
	end := slices.Index(args, "--")
	if end < 0 || end == len(args)-1 {
		return "", nil, errors.New("the command is missing; " + usage)
	}
	for _, option := range args[:end] {
		path, ok := strings.CutPrefix(option, "--env-file=")
		if !ok || path == "" {
			return "", nil, fmt.Errorf("%q is not an option; %s", option, usage)
		}
		file = path
	}
	return file, args[end+1:], nil
}

// read reads what the agent wrote. No error has a value in it.
func read(file string) (map[string]string, error) {
	data, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("the variables are not in %s; the webhook mounts them there, after the agent wrote them; "+
			"is there another mount in its place?", file)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("the user of this container (%d) may not read %s; "+
			"state the same securityContext.runAsUser for all containers that get the variables, or an fsGroup", os.Getuid(), file)
	case err != nil:
		return nil, fmt.Errorf("read the variables: %w", err)
	}
	var variables map[string]string
	if json.Unmarshal(data, &variables) != nil {
		return nil, fmt.Errorf("%s is not what an agent of this version wrote", file)
	}
	return variables, nil
}

// merge is environ with variables in place of those of the same names.
func merge(environ []string, variables map[string]string) []string {
	merged := slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		_, ours := variables[name]
		return ours
	})
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		merged = append(merged, name+"="+variables[name])
	}
	return merged
}

// running is the program of this process, wherever its file is.
const running = "/proc/self/exe"

// Install copies this program to path, for the containers whose commands it runs; "" is nowhere. A complete copy stays as it is: a
// container may be running it.
func Install(path string) error {
	if path == "" {
		return nil
	}
	program, err := os.Open(running)
	if err != nil {
		return fmt.Errorf("read the agent's program: %w", err)
	}
	defer program.Close()
	info, err := program.Stat()
	if err != nil {
		return fmt.Errorf("read the agent's program: %w", err)
	}
	if there, err := os.Stat(path); err == nil && there.Size() == info.Size() {
		return nil // a copy gets its name last
	}
	if err := atomicfile.Write(path, 0o555, program); err != nil {
		return fmt.Errorf("copy the agent's program to %s: %w", path, err)
	}
	return nil
}
