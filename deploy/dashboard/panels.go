package main

// rows are the dashboard from top to bottom: what an operator asks first stands first.
var rows = []struct {
	title  string
	panels []panel
}{
	{"At a glance", []panel{
		{
			title: "Replicas of the webhook", about: "That Prometheus can reach.", kind: "stat", unit: "none", width: 6, steps: atLeast(1, 2),
			queries: []query{{"count(kms_webhook_certificate_expiry_timestamp_seconds) or vector(0)", ""}},
		},
		{
			title: "Certificate ends in", about: "The serving certificate that ends first.", kind: "stat", unit: "s", width: 6, steps: atLeast(2*3600, 48*3600),
			queries: []query{{"min(kms_webhook_certificate_expiry_timestamp_seconds) - time()", ""}},
		},
		{
			title: "Pods with stale secrets", about: "A value is older than three of the pod's refresh intervals.", kind: "stat", unit: "none", width: 6, steps: atMost(1, 10),
			queries: []query{{
				"count(count by (namespace, pod) (max by (namespace, pod, secret) (kms_agent_secret_age_seconds{" + chosen + "})" +
					" > on (namespace, pod) group_left () 3 * (max by (namespace, pod) (kms_agent_refresh_interval_seconds{" + chosen + "}) > 0))) or vector(0)", "",
			}},
		},
		{
			title: "Agents", about: "Sidecars that serve metrics.", kind: "stat", unit: "none", width: 6, steps: []step{{"blue", nil}},
			queries: []query{{"count(kms_agent_refresh_interval_seconds{" + chosen + "}) or vector(0)", ""}},
		},
	}},
	{"Admission", []panel{
		{
			title: "Pods decided on", about: "By what became of them and why.", kind: "timeseries", unit: "reqps", width: 12,
			queries: []query{{"sum by (result, reason) (rate(kms_webhook_admissions_total[$__rate_interval])) > 0", "{{result}}: {{reason}}"}},
		},
		{
			title: "Time of an admission", about: "As the webhook measures it, without the way from the API server.", kind: "timeseries", unit: "s", width: 12,
			queries: []query{
				{"histogram_quantile(0.5, sum by (le) (rate(kms_webhook_admission_duration_seconds_bucket[$__rate_interval])))", "half"},
				{"histogram_quantile(0.99, sum by (le) (rate(kms_webhook_admission_duration_seconds_bucket[$__rate_interval])))", "99 of 100"},
			},
		},
		{
			title: "Pods that the API server refused without an answer", about: "kube-apiserver's own count: no replica could be reached.", kind: "timeseries", unit: "reqps", width: 12,
			queries: []query{{`sum by (error_type) (rate(apiserver_admission_webhook_rejection_count{name="pods.kms.alibabacloud.com", error_type!="no_error"}[$__rate_interval]))`, "{{error_type}}"}},
		},
		{
			title: "Operator's document", about: "1: in force as it is; 0: it has a mistake, and the last good one is in force.", kind: "timeseries", unit: "none", width: 12,
			queries: []query{{"min by (pod) (kms_webhook_config_last_reload_successful)", "{{pod}}"}},
		},
	}},
	{"Agents", []panel{
		{
			title: "Refreshes", about: "Of pods' secrets.", kind: "timeseries", unit: "reqps", width: 12,
			queries: []query{{"sum by (result, code) (rate(kms_agent_refresh_total{" + chosen + "}[$__rate_interval]))", "{{result}}: {{code}}"}},
		},
		{
			title: "Oldest values", about: "Since KMS gave them last; ten pods.", kind: "timeseries", unit: "s", width: 12,
			queries: []query{{"topk(10, max by (namespace, pod) (kms_agent_secret_age_seconds{" + chosen + "}))", "{{namespace}}/{{pod}}"}},
		},
		{
			title: "Requests to KMS", about: "By the cloud's answer. The shared gateway allows 450 a second in an account and region.", kind: "timeseries", unit: "reqps", width: 12,
			queries: []query{{"sum by (code) (rate(kms_agent_kms_requests_total{" + chosen + "}[$__rate_interval]))", "{{code}}"}},
		},
		{
			title: "Requests to STS", about: "By the cloud's answer.", kind: "timeseries", unit: "reqps", width: 12,
			queries: []query{{"sum by (code) (rate(kms_agent_sts_requests_total{" + chosen + "}[$__rate_interval]))", "{{code}}"}},
		},
		{
			title: "Files written", about: "Because a secret's value changed, or a pod started.", kind: "timeseries", unit: "wps", width: 12,
			queries: []query{{"sum by (namespace) (rate(kms_agent_files_written_total{" + chosen + "}[$__rate_interval]))", "{{namespace}}"}},
		},
		{
			title: "Reads through the local API", about: "Answered from memory, and with a request to KMS.", kind: "timeseries", unit: "reqps", width: 12,
			queries: []query{
				{"sum(rate(kms_agent_cache_hits_total{" + chosen + "}[$__rate_interval]))", "from memory"},
				{"sum(rate(kms_agent_cache_misses_total{" + chosen + "}[$__rate_interval]))", "from KMS"},
			},
		},
	}},
}

// chosen narrows the agents to the namespaces that the reader chose.
const chosen = `namespace=~"$namespace"`

// atLeast is red below bad, yellow below good, and green from there on.
func atLeast(bad, good float64) []step {
	return []step{{"red", nil}, {"yellow", &bad}, {"green", &good}}
}

// atMost is green below some, yellow below many, and red from there on.
func atMost(some, many float64) []step {
	return []step{{"green", nil}, {"yellow", &some}, {"red", &many}}
}
