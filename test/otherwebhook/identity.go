package main

import "fmt"

const (
	tokenVolume = "rrsa-oidc-token"
	tokenDir    = "/var/run/secrets/ack.alibabacloud.com/rrsa-tokens"
)

// variables are those of RRSA. The role does not exist, so that an agent that used it would get nothing.
var variables = array{
	object{"name": "ALIBABA_CLOUD_ROLE_ARN", "value": "acs:ram::1234567890123456:role/of-the-other-webhook"},
	object{"name": "ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "value": "acs:ram::1234567890123456:oidc-provider/of-the-other-webhook"},
	object{"name": "ALIBABA_CLOUD_OIDC_TOKEN_FILE", "value": tokenDir + "/token"},
	object{"name": "ALIBABA_CLOUD_STS_ENDPOINT", "value": "sts.of-the-other-webhook.example"},
}

// identity gives all containers of a pod, those of others too, the variables and the token of RRSA, and leaves what is there.
func identity(p pod) array {
	var patch array
	for list, containers := range map[string][]container{"initContainers": p.Spec.InitContainers, "containers": p.Spec.Containers} {
		for i, c := range containers {
			at := fmt.Sprintf("/spec/%s/%d", list, i)
			if c.Env == nil {
				patch = append(patch, add(at+"/env", array{}))
			}
			for _, v := range variables {
				if !has(c.Env, v.(object)["name"].(string)) {
					patch = append(patch, add(at+"/env/-", v))
				}
			}
			if c.VolumeMounts == nil {
				patch = append(patch, add(at+"/volumeMounts", array{}))
			}
			if !has(c.VolumeMounts, tokenVolume) {
				patch = append(patch, add(at+"/volumeMounts/-", object{"name": tokenVolume, "mountPath": tokenDir, "readOnly": true}))
			}
		}
	}
	if has(p.Spec.Volumes, tokenVolume) {
		return patch
	}
	if p.Spec.Volumes == nil {
		patch = append(patch, add("/spec/volumes", array{}))
	}
	token := object{"serviceAccountToken": object{"audience": "sts.aliyuncs.com", "expirationSeconds": 3600, "path": "token"}}
	return append(patch, add("/spec/volumes/-", object{"name": tokenVolume, "projected": object{"defaultMode": 420, "sources": array{token}}}))
}
