package failure

import (
	"strings"
	"sync"
)

// The words of the catalogue that differ between an agent in a pod and kms-sync.
var (
	inPod  = sync.OnceValue(func() *strings.Replacer { return strings.NewReplacer(words(0)...) })
	inSync = sync.OnceValue(func() *strings.Replacer { return strings.NewReplacer(words(1)...) })
)

func words(of int) (pairs []string) {
	for _, w := range [][3]string{
		{"{this}", "this pod", "this ServiceAccount"},
		{"{again}", "the agent retries", "kms-sync retries"},
		{"{slower}", "if it persists, roll pods out more slowly",
			"if it persists, lengthen rotationInterval, or find what else calls STS in this account"},
		{"{patience}",
			"change nothing in the cluster: the agent retries, files stay as they are and pods stay ready; do not restart pods",
			"change nothing in the cluster: kms-sync retries, and the Secret stays as it is"},
		{"{still}", "files stay as they are, and restarting pods does not help", "the Secret stays as it is"},
		{"{places}", "pods", "kms-sync's pods"},
		{"{another}",
			"give the pod a ServiceAccount that the role trusts, or the ServiceAccount another role",
			"name another ServiceAccount, or give this one another role"},
		{"{expired}",
			"the pod's ServiceAccount token has expired; the kubelet renews it, unless the node's clock is wrong",
			"the ServiceAccount's token has expired; it is requested anew in time, unless a clock is wrong"},
		{"{clocks}", "check the clock and the kubelet of the node, then delete the pod",
			"check the clocks of the API server and of kms-sync's node"},
		{"{audiences}", "the audience of the volume rrsa-oidc-token and the provider's client ID must both be sts.aliyuncs.com",
			"the provider's client ID must be sts.aliyuncs.com"},
		{"{asked}", "sts.sessionDuration of the webhook's configuration", "roleSessionExpiration of the store"},
		{"{shorter}", "have the administrator shorten sts.sessionDuration", "shorten roleSessionExpiration"},
		{"{roleField}", "roleArn in the annotation, or rolearn in the Secret that the annotation identity names",
			"ramRoleARN or remoteRamRoleARN of the store"},
		{"{sessionField}", "rolesessionname in the Secret", "the names of sessions in the store"},
		{"{newKey}", "put a valid one into the Secret that the annotation identity names, under id and secret, and restart the pod",
			"put a valid one into the Secrets that accessKey and accessKeySecret of the store name"},
		{"{newKeyOfKMS}", "with the identity access-key, put a valid one into the Secret that the annotation names, and restart the pod",
			"put a valid one into the Secrets that accessKey and accessKeySecret of the store name"},
		{"{onePair}", "id and secret in the Secret that the annotation identity names must be of one access key; then restart the pod",
			"accessKey and accessKeySecret of the store must be of one access key"},
		{"{onePairOfKMS}", "with the identity access-key, that id and secret in the Secret are of one access key",
			"with an access key, that accessKey and accessKeySecret of the store are of one"},
		{"{own}", "use the identity rrsa, which gives this pod a role of its own", "name a ServiceAccount with a role in serviceAccountRef"},
		{"{rrsa}", "use the identity rrsa", "name a ServiceAccount with a role in serviceAccountRef"},
		{"{here}", "this pod", "kms-sync's pod"},
		{"{program}", "the agent", "kms-sync"},
		{"{disabled}", "the webhook sets ALIBABA_CLOUD_ECS_METADATA_DISABLED with the identity rrsa; " +
			"to use node-role, set the annotation identity, not the environment",
			"remove ALIBABA_CLOUD_ECS_METADATA_DISABLED from kms-sync's environment"},
		{"{optional}", "; or set optional: true if the pod can run without the secret", ""},
		{"{unreadable}", "the pod's fsGroup or the agent's user must be able to read the volume rrsa-oidc-token",
			"the fsGroup of kms-sync's pod must let it read the projected token"},
		{"{unmounted}", "the volume rrsa-oidc-token must be mounted in the agent's containers; the webhook does it, " +
			"unless the pod brings its own",
			"the administrator must have the chart project it, or name a ServiceAccount in serviceAccountRef"},
		{"{passwordOf}", "the file password beside the client key", "the password"},
		{"{clientKey}", "clientKey and password in the Secret that the annotation identity names", "clientKeyContent and password of the store"},
		{"{clientKeyIn}", "the Secret that the annotation identity names", "the Secret that clientKeyContent of the store names"},
		{"{clientKeyForm}", "it needs two keys: clientKey, the JSON file that the KMS console gives out, and password",
			"it needs the JSON file that the KMS console gives out"},
	} {
		pairs = append(pairs, w[0], w[1+of])
	}
	return pairs
}

func (r Adviser) words() *strings.Replacer {
	if r.Sync {
		return inSync()
	}
	return inPod()
}
