package atrest

import (
	"bufio"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// A look is one reading of an API server's metrics. Its counters start at zero with the process.
type look struct {
	at      float64           // when, by the API server's clock; 0: not known
	started float64           // of the process, in seconds since 1970; tells the API servers of a cluster apart
	config  string            // hash of the encryption configuration in force, where it is served
	reloads map[string]reload // of that configuration, by outcome: success, failure
	done    map[operation]float64
	used    map[use]float64    // by KMS v2's keys
	lastUse map[use]float64    // when
	current map[kmsKey]float64 // when each KMS provider last reported this key as its own
}

type reload struct{ count, last float64 }

// The directions of an operation, as the metrics name them.
const (
	read  = "from_storage"
	write = "to_storage"
)

// An operation is an encryption or decryption that succeeded. Its prefix is that of the value in etcd, or the name of the key alone:
// the metrics count providers with local keys, such as aescbc, once with either.
type operation struct{ resource, direction, prefix string }

type kmsKey struct{ provider, hash string }

type use struct {
	kmsKey
	direction string
}

const (
	operationsTotal = "apiserver_storage_transformation_operations_total"
	keyUses         = "apiserver_envelope_encryption_key_id_hash_total"
	keyLastUse      = "apiserver_envelope_encryption_key_id_hash_last_timestamp_seconds"
	keyStatus       = "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds"
	reloadsTotal    = "apiserver_encryption_config_controller_automatic_reloads_total"
	reloadLast      = "apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds"
	configInfo      = "apiserver_encryption_config_controller_last_config_info"
	processStart    = "process_start_time_seconds"
)

// readMetrics picks the few metrics that it needs out of an API server's megabytes of Prometheus text.
func readMetrics(r io.Reader) (look, error) {
	l := look{reloads: map[string]reload{}, done: map[operation]float64{}, used: map[use]float64{}, lastUse: map[use]float64{},
		current: map[kmsKey]float64{}}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, labels, value, ok := sample(lines.Text())
		if !ok {
			continue
		}
		outcome, key := labels["status"], kmsKey{labels["provider_name"], labels["key_id_hash"]}
		switch name {
		case processStart:
			l.started = value
		case operationsTotal:
			if outcome == "OK" {
				l.done[operation{labels["resource"], labels["transformation_type"], labels["transformer_prefix"]}] += value
			}
		case keyUses:
			l.used[use{key, labels["transformation_type"]}] += value
		case keyLastUse:
			l.lastUse[use{key, labels["transformation_type"]}] = value
		case keyStatus:
			l.current[key] = max(l.current[key], value)
		case reloadsTotal:
			l.reloads[outcome] = reload{l.reloads[outcome].count + value, l.reloads[outcome].last}
		case reloadLast:
			l.reloads[outcome] = reload{l.reloads[outcome].count, value}
		case configInfo:
			l.config = labels["hash"]
		}
	}
	return l, lines.Err()
}

var label = regexp.MustCompile(`([a-zA-Z_]\w*)=("(?:[^"\\]|\\.)*")`)

// sample parses a line, and skips other metrics without parsing their labels.
func sample(line string) (name string, labels map[string]string, value float64, ok bool) {
	name, rest := line, ""
	if i := strings.IndexAny(line, "{ "); i >= 0 {
		name, rest = line[:i], line[i:]
	}
	switch name {
	case operationsTotal, keyUses, keyLastUse, keyStatus, reloadsTotal, reloadLast, configInfo, processStart:
	default:
		return "", nil, 0, false
	}
	labels = map[string]string{}
	if end := strings.LastIndexByte(rest, '}'); end >= 0 {
		for _, m := range label.FindAllStringSubmatch(rest[:end], -1) {
			if text, err := strconv.Unquote(m[2]); err == nil {
				labels[m[1]] = text
			}
		}
		rest = rest[end+1:]
	}
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return "", nil, 0, false
	}
	value, err := strconv.ParseFloat(fields[0], 64)
	return name, labels, value, err == nil
}

// since returns what was counted since an earlier look at the same process.
func (l look) since(earlier look) (done map[operation]float64, used map[use]float64) {
	return difference(l.done, earlier.done), difference(l.used, earlier.used)
}

func difference[K comparable](now, then map[K]float64) map[K]float64 {
	out := map[K]float64{}
	for k, n := range now {
		if n -= then[k]; n > 0 {
			out[k] = n
		}
	}
	return out
}

// plaintext is the name of storage without encryption.
const plaintext = "plaintext"

const kmsV1, kmsV2 = "k8s:enc:kms:v1:", "k8s:enc:kms:v2:"

// storedAs counts a resource's values by the prefix that they have in etcd, which includes the key's name or, for KMS v2, the hash of
// its identifier. With two providers of local keys in use, the metrics do not tell which key belongs to which, and storedAs omits the keys.
func storedAs(done map[operation]float64, used map[use]float64, resource, direction string) map[string]float64 {
	out, local, keys := map[string]float64{}, map[string]float64{}, map[string]float64{}
	for o, n := range done {
		switch {
		case o.resource != resource || o.direction != direction || n <= 0:
		case o.prefix == "" || o.prefix == "identity":
			out[plaintext] += n
		case strings.HasPrefix(o.prefix, kmsV2):
			kmsKeys(out, used, o, n)
		case strings.HasPrefix(o.prefix, "k8s:enc:kms:"):
			out[o.prefix] += n
		case strings.HasPrefix(o.prefix, "k8s:enc:"):
			local[o.prefix] += n
		default:
			keys[o.prefix] += n
		}
	}
	for provider, n := range local {
		if len(local) > 1 || len(keys) == 0 {
			out[provider] += n
			continue
		}
		for key, n := range keys {
			out[provider+key] += n
		}
	}
	return out
}

// kmsKeys divides the operations of a KMS v2 provider among its keys. The metric by key has no label for the resource: a single key gets
// all operations; each of several keys gets its operations for any resource.
func kmsKeys(out map[string]float64, used map[use]float64, o operation, n float64) {
	provider := strings.TrimSuffix(strings.TrimPrefix(o.prefix, kmsV2), ":")
	byKey := map[string]float64{}
	for u, times := range used {
		if u.provider == provider && u.direction == o.direction && times > 0 {
			byKey[u.hash] += times
		}
	}
	if len(byKey) == 0 {
		out[o.prefix] += n
	}
	for hash, times := range byKey {
		if len(byKey) == 1 {
			times = n
		}
		out[o.prefix+hash] += times
	}
}

// latest returns the key that a KMS provider last reported as its own, "" if it reported none.
func (l look) latest(provider string) (hash string) {
	var at float64
	for key, said := range l.current {
		if key.provider == provider && said > at {
			hash, at = key.hash, said
		}
	}
	return hash
}

// transforms reports whether a resource's values pass through any provider, including identity.
func (l look) transforms(resource string) bool {
	for o := range l.done {
		if o.resource == resource {
			return true
		}
	}
	return false
}

// bare reports whether nothing indicates an encryption configuration.
func (l look) bare() bool { return len(l.done) == 0 && len(l.current) == 0 && l.config == "" }
