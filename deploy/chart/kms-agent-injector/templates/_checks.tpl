{{/*
What a schema cannot say, or cannot say well. All mistakes are reported together; each names the value and what to write.
*/}}
{{- define "kms.checks" -}}
{{- $mistakes := list }}
{{- if not .Values.accountID }}
{{- $mistakes = append $mistakes "accountID is missing: the id of the Alibaba Cloud account, for example --set accountID=1234567890123456" }}
{{- end }}
{{- if not .Values.region }}
{{- $mistakes = append $mistakes "region is missing: the cluster's region, for example --set region=cn-hangzhou" }}
{{- end }}
{{- if not (or .Values.clusterID .Values.oidcProviderARN) }}
{{- $mistakes = append $mistakes "clusterID is missing: the ACK cluster's id, for example --set clusterID=c0123456789abcdef" }}
{{- end }}
{{- range $service := list "kms" "sts" }}
{{- $file := (get $.Values $service).caFile }}
{{- if and $file (not (isAbs $file)) (not (hasKey ($.Values.caFiles | default dict) $file)) }}
{{- $mistakes = append $mistakes (printf "%s.caFile is %q, which is not in caFiles; add it, for example --set-file 'caFiles.%s=%s'" $service $file (replace "." "\\." $file) $file) }}
{{- end }}
{{- end }}
{{- with .Values.clientCAFile }}
{{- if and (not (isAbs .)) (not (hasKey ($.Values.caFiles | default dict) .)) }}
{{- $mistakes = append $mistakes (printf "clientCAFile is %q, which is not in caFiles; add it, for example --set-file 'caFiles.%s=%s'" . (replace "." "\\." .) .) }}
{{- end }}
{{- end }}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.from) }}
{{- $mistakes = append $mistakes "networkPolicy.from is missing: the CIDRs from which the API servers call, for example --set 'networkPolicy.from={10.0.0.0/28}'; without them no call would get through, and annotated pods would not start" }}
{{- end }}
{{- range $label := list "name" "component" "instance" }}
{{- if hasKey ($.Values.podLabels | default dict) (printf "app.kubernetes.io/%s" $label) }}
{{- $mistakes = append $mistakes (printf "podLabels has app.kubernetes.io/%s, which the chart sets itself, since its Deployment and its Service find the pods by such labels; remove it" $label) }}
{{- end }}
{{- end }}
{{- $files := .Values.certificates.files }}
{{- if eq .Values.certificates.mode "files" }}
{{- if not $files.secretName }}
{{- $mistakes = append $mistakes "certificates.files.secretName is missing: the Secret with tls.crt and tls.key" }}
{{- end }}
{{- if not (contains "-----BEGIN CERTIFICATE-----" $files.caBundle) }}
{{- $mistakes = append $mistakes "certificates.files.caBundle is not PEM: give the authority's certificate, for example --set-file certificates.files.caBundle=ca.crt" }}
{{- end }}
{{- else if or $files.secretName $files.caBundle }}
{{- $mistakes = append $mistakes (printf "certificates.files has no effect with certificates.mode %s; remove it or write mode: files" .Values.certificates.mode) }}
{{- end }}
{{- if and .Values.certificates.certManager.issuerRef (ne .Values.certificates.mode "cert-manager") }}
{{- $mistakes = append $mistakes (printf "certificates.certManager has no effect with certificates.mode %s; remove it or write mode: cert-manager" .Values.certificates.mode) }}
{{- end }}
{{- $port := .Values.agent.metricsPort }}
{{- range .Values.namespaces }}
{{- $port = or $port (.agent | default dict).metricsPort }}
{{- end }}
{{- if and .Values.monitoring.podMonitor.enabled (not $port) }}
{{- $mistakes = append $mistakes "monitoring.podMonitor needs agent.metricsPort, there or in an entry of namespaces: the port on which agents serve metrics, for example --set agent.metricsPort=9464" }}
{{- end }}
{{- with .Values.image }}
{{- if and .digestTag (not .tag) (ne .digestTag $.Chart.AppVersion) }}
{{- $mistakes = append $mistakes (printf "image.digestTag is %s, and the chart is of %s: the earlier images' digests in the values would run as the new version; write --reset-then-reuse-values instead of --reuse-values, or take image.digest, image.agentDigest and image.digestTag out of your values" .digestTag $.Chart.AppVersion) }}
{{- end }}
{{- end }}
{{- with $mistakes }}
{{- fail (printf "\n\n  - %s\n" (join "\n  - " .)) }}
{{- end }}
{{- end }}
