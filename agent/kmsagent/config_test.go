package kmsagent

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// documented is the file that the KMS Agent's documentation shows for ACK.
const documented = `[Server]
HttpPort = 2025
[KMS]
Region = "cn-hangzhou"
[Cache]
CacheType = "InMemory"
CacheSize = 1000
TtlSeconds = 300
[Log]
LogLevel = "Debug"
LogPath = "./logs/"
MaxSize = 100
MaxBackups = 2
`

func TestReadConfig(t *testing.T) {
	base := Config{
		Server: Server{
			HTTPPort: 2025, SSRFHeaders: []string{"X-KMS-Token", "X-Vault-Token"},
			SSRFEnvVariables: []string{"KMS_TOKEN", "KMS_SESSION_TOKEN", "KMS_CONTAINER_AUTHORIZATION_TOKEN"},
			PathPrefix:       "/v1/", MaxConn: 800, IgnoreTransientErrors: true,
		},
		KMS:   KMS{Region: "cn-hangzhou"},
		Cache: Cache{CacheType: "InMemory", CacheSize: 1000, TTLSeconds: 300},
		Log:   Log{LogLevel: "Info"},
	}
	asDocumented := base
	asDocumented.Log = Log{LogLevel: "Debug", LogPath: "./logs/", MaxSize: 100, MaxBackups: 2}
	for text, want := range map[string]Config{
		"[KMS]\nRegion = \"cn-hangzhou\"": base,
		documented:                        asDocumented,
		`[Server]
HttpPort = 3000
SSRFHeaders = ["X-My-Token"]
SSRFEnvVariables = ["MY_TOKEN"]
PathPrefix = "/secrets/"
MaxConn = 10
ResponseType = 2
IgnoreTransientErrors = false
[KMS]
Endpoint = "kst-1.cryptoservice.kms.aliyuncs.com"
[Cache]
CacheSize = 5
TtlSeconds = 0
[Log]
LogLevel = "error"`: {
			Server: Server{HTTPPort: 3000, SSRFHeaders: []string{"X-My-Token"}, SSRFEnvVariables: []string{"MY_TOKEN"}, PathPrefix: "/secrets/",
				MaxConn: 10, ResponseType: 2},
			KMS:   KMS{Endpoint: "kst-1.cryptoservice.kms.aliyuncs.com"},
			Cache: Cache{CacheType: "InMemory", CacheSize: 5},
			Log:   Log{LogLevel: "error"},
		},
	} {
		if got, err := ReadConfig(writeConfig(t, text)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n got %+v, %v\nwant %+v", text, got, err, want)
		}
	}
}

func TestMistakesInConfigTeach(t *testing.T) {
	for text, want := range map[string][]string{
		"":                              {"[KMS] says neither Region"},
		"[Server\n":                     {"config.toml", "toml: line"},
		"[KMS]\nRegion = 1":             {"KMS.Region", "line 2"},
		documented + "[Extra]\nX = 1\n": {"Extra", "the tables are [Server], [KMS], [Cache] and [Log]"},
		"Region = \"cn-hangzhou\"\n":    {"Region: there is no such table", "[KMS] says neither"},
		"[KMS]\nRegion = \"cn-hangzhou\"\nRegoin = \"x\"\n[Cache]\nTtl = 3\n": {
			"[KMS] Regoin: there is no such key; it is one of Region, Endpoint",
			"[Cache] Ttl: there is no such key; it is one of CacheType, CacheSize, TtlSeconds",
		},
		"[Server]\nHttpPort = 65536\nMaxConn = 1001\nResponseType = 3\nSSRFHeaders = []\nSSRFEnvVariables = []\nPathPrefix = " +
			"\"v1\"\n[KMS]\nRegion = \"cn/x\"\nEndpoint = \"https://x\"\n" +
			"[Cache]\nCacheType = \"Redis\"\nCacheSize = 0\nTtlSeconds = -1\n[Log]\nLogLevel = \"Loud\"\n": {
			"HttpPort = 65536: it is 1 to 65535", "MaxConn = 1001: it is 1 to 1000", "ResponseType = 3", "SSRFHeaders is empty",
			"SSRFEnvVariables is empty",
			`PathPrefix = "v1"`, `Region = "cn/x"`, `Endpoint = "https://x"`, `CacheType = "Redis"`, "CacheSize = 0", "TtlSeconds = -1",
			`LogLevel = "Loud"`,
		},
	} {
		_, err := ReadConfig(writeConfig(t, text))
		for _, part := range want {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s\n%v; want %s", text, err, part)
			}
		}
	}
	if _, err := ReadConfig("/nonexistent/config.toml"); err == nil || !strings.Contains(err.Error(), "/nonexistent/config.toml") {
		t.Error(err)
	}
}

func TestHost(t *testing.T) {
	for want, c := range map[string]struct {
		kms KMS
		vpc bool
	}{
		"kms.cn-hangzhou.aliyuncs.com":     {KMS{Region: "cn-hangzhou"}, false},
		"kms-vpc.cn-hangzhou.aliyuncs.com": {KMS{Region: "cn-hangzhou"}, true},
		"kms.example":                      {KMS{Region: "cn-hangzhou", Endpoint: "kms.example"}, true},
	} {
		if got := c.kms.host(c.vpc); got != want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
