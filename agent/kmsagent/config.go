package kmsagent

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/kms-agent-injector/kms-agent-injector/agent/httpapi"
)

// Config is the KMS Agent's config.toml, with its names and its defaults.
type Config struct {
	Server Server
	KMS    KMS
	Cache  Cache
	Log    Log
}

// Server is about the local API.
type Server struct {
	HTTPPort              int                  `toml:"HttpPort"` // on 127.0.0.1; default 2025; 0: a free one, which the log names
	SSRFHeaders           []string             // that the token may be in; default X-KMS-Token, X-Vault-Token
	SSRFEnvVariables      []string             // that say the token or file:///path; default KMS_TOKEN, …
	PathPrefix            string               // of GET <prefix><secretId>; default /v1/
	MaxConn               int                  // connections at a time, 1 to 1000; default 800
	ResponseType          httpapi.ResponseType // 0 KMS (default), 1 AWS Secrets Manager, 2 HashiCorp Vault KV
	IgnoreTransientErrors bool                 // serve expired values while KMS cannot be reached; default true
}

// KMS is where the secrets are. One of the two is needed.
type KMS struct {
	Region   string // cn-hangzhou
	Endpoint string // host; default kms[-vpc].<Region>.aliyuncs.com
}

// Cache says how long values are served without a call to KMS.
type Cache struct {
	CacheType  string // InMemory
	CacheSize  int    // secrets, 1 to 1000; default 1000
	TTLSeconds int    `toml:"TtlSeconds"` // default 300; 0: every read asks KMS
}

// Log is about the log, which goes to standard error: a file in a container fills its disk and is never read. LogPath,
// MaxSize and MaxBackups are accepted, so that a file that says them works as it is, and said to have no effect.
type Log struct {
	LogLevel   string // Debug, Info (default), Warn, Error
	LogPath    string
	MaxSize    int // megabytes
	MaxBackups int
}

// keys lists the keys of each table of the file.
var keys = map[string]string{
	"Server": "HttpPort, SSRFHeaders, SSRFEnvVariables, PathPrefix, MaxConn, ResponseType, IgnoreTransientErrors",
	"KMS":    "Region, Endpoint",
	"Cache":  "CacheType, CacheSize, TtlSeconds",
	"Log":    "LogLevel, LogPath, MaxSize, MaxBackups",
}

// ReadConfig reads a config.toml. All mistakes in it are reported together.
func ReadConfig(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	c := Config{
		Server: Server{
			HTTPPort: 2025, SSRFHeaders: httpapi.DefaultHeaders(), SSRFEnvVariables: httpapi.DefaultTokenVariables(),
			PathPrefix: httpapi.DefaultPathPrefix, MaxConn: httpapi.DefaultMaxConn, IgnoreTransientErrors: true,
		},
		Cache: Cache{CacheType: "InMemory", CacheSize: 1000, TTLSeconds: 300},
		Log:   Log{LogLevel: "Info"},
	}
	read, err := toml.Decode(string(text), &c)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	mistakes := c.mistakes()
	for _, key := range read.Undecoded() {
		mistakes = append(mistakes, unknown(key))
	}
	if len(mistakes) > 0 {
		return Config{}, fmt.Errorf("%s:\n%w", path, errors.Join(mistakes...))
	}
	return c, nil
}

func unknown(key toml.Key) error {
	if known, ok := keys[key[0]]; ok && len(key) > 1 {
		return fmt.Errorf("[%s] %s: there is no such key; it is one of %s", key[0], key[1], known)
	}
	return fmt.Errorf("%s: there is no such table or key; the tables are [Server], [KMS], [Cache] and [Log]", key)
}

var regionName = regexp.MustCompile(`^[a-z0-9-]+$`)

func (c *Config) mistakes() []error {
	var mistakes []error
	add := func(wrong bool, format string, args ...any) {
		if wrong {
			mistakes = append(mistakes, fmt.Errorf(format, args...))
		}
	}
	s, k := c.Server, c.KMS
	add(s.HTTPPort < 0 || s.HTTPPort > 65535,
		"[Server] HttpPort = %d: it is 1 to 65535, or 0 for a free one, which the log names", s.HTTPPort)
	add(s.MaxConn < 1 || s.MaxConn > 1000, "[Server] MaxConn = %d: it is 1 to 1000", s.MaxConn)
	add(s.ResponseType < 0 || s.ResponseType > 2,
		"[Server] ResponseType = %d: it is 0 (KMS), 1 (AWS Secrets Manager) or 2 (HashiCorp Vault KV)", s.ResponseType)
	add(len(s.SSRFHeaders) == 0, "[Server] SSRFHeaders is empty: no request could bring its token")
	add(len(s.SSRFEnvVariables) == 0, "[Server] SSRFEnvVariables is empty: there would be no token")
	add(!strings.HasPrefix(s.PathPrefix,
		"/") || !strings.HasSuffix(s.PathPrefix, "/"), "[Server] PathPrefix = %q: it begins and ends with /", s.PathPrefix)
	add(k.Region == "" && k.Endpoint == "", `[KMS] says neither Region, as in Region = "cn-hangzhou", nor Endpoint`)
	add(k.Region != "" && !regionName.MatchString(k.Region), "[KMS] Region = %q: it is an ID such as cn-hangzhou", k.Region)
	add(strings.ContainsAny(k.Endpoint, "/?#@ "), "[KMS] Endpoint = %q: it is a host name, without scheme or path", k.Endpoint)
	add(c.Cache.CacheType != "InMemory", "[Cache] CacheType = %q: it is InMemory", c.Cache.CacheType)
	add(c.Cache.CacheSize < 1 || c.Cache.CacheSize > 1000, "[Cache] CacheSize = %d: it is 1 to 1000", c.Cache.CacheSize)
	add(c.Cache.TTLSeconds < 0 || c.Cache.TTLSeconds > 24*3600, "[Cache] TtlSeconds = %d: it is 0 to 86400, a day", c.Cache.TTLSeconds)
	_, err := c.Log.level()
	add(err != nil, "[Log] LogLevel = %q: it is Debug, Info, Warn or Error", c.Log.LogLevel)
	return mistakes
}

func (l Log) level() (slog.Level, error) {
	var level slog.Level
	err := level.UnmarshalText([]byte(l.LogLevel))
	return level, err
}

// host is where KMS is asked.
func (k KMS) host(vpc bool) string {
	switch {
	case k.Endpoint != "":
		return k.Endpoint
	case vpc:
		return "kms-vpc." + k.Region + ".aliyuncs.com"
	}
	return "kms." + k.Region + ".aliyuncs.com"
}

// arnPrefix is that of the ARNs of the secrets in a role's account; "" if the region is not known.
func (k KMS) arnPrefix(role string) string {
	account, isRole := strings.CutPrefix(role, "acs:ram::")
	if !isRole || k.Region == "" {
		return ""
	}
	account, _, _ = strings.Cut(account, ":")
	return "acs:kms:" + k.Region + ":" + account + ":secret/"
}
