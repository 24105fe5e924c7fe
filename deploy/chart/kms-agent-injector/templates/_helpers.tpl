{{/* What identifies the webhook's pods. It can never change: a Deployment's selector is immutable. */}}
{{- define "kms.selector" -}}
app.kubernetes.io/name: kms-agent-injector
app.kubernetes.io/component: webhook
{{- end }}

{{/* What identifies the pod that keeps the certificates: not one of the webhook's, to which the Service leads. */}}
{{- define "kms.certificatesSelector" -}}
app.kubernetes.io/name: kms-agent-injector
app.kubernetes.io/component: certificates
{{- end }}

{{- define "kms.labels" -}}
{{ include "kms.selector" . }}
{{ include "kms.commonLabels" . }}
{{- end }}

{{- define "kms.certificatesLabels" -}}
{{ include "kms.certificatesSelector" . }}
{{ include "kms.commonLabels" . }}
{{- end }}

{{- define "kms.commonLabels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* A reference to an image: takes a dictionary of the root, the image's name and its digest, which counts, beside the tag, where there is one. */}}
{{- define "kms.image" -}}
{{- with .root.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .root.Values.image.repository }}/{{ .name }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}{{ with .digest }}@{{ . }}{{ end }}
{{- end }}

{{/* The webhook's own image. */}}
{{- define "kms.webhookImage" -}}
{{- include "kms.image" (dict "root" . "name" "kms-webhook" "digest" .Values.image.digest) }}
{{- end }}

{{/* The webhook's configuration: the values that are part of it, with what the chart knows better filled in. */}}
{{- define "kms.config" -}}
{{- $config := pick .Values "accountID" "clusterID" "region" "oidcProviderARN" "network" "kms" "sts" "agent" "allow" "namespaces" | deepCopy }}
{{- $agent := $config.agent }}
{{- if not $agent.image }}
{{- $_ := set $agent "image" (include "kms.image" (dict "root" . "name" "kms-agent" "digest" .Values.image.agentDigest)) }}
{{- end }}
{{- if not $agent.imagePullPolicy }}
{{- $_ := set $agent "imagePullPolicy" .Values.image.pullPolicy }}
{{- end }}
{{- $_ := set $config "accountID" (include "kms.accountID" .) }}
{{- toYaml $config }}
{{- end }}

{{/*
The names of the agent's images, without registry, path, tag and digest: a regular expression. An asterisk of earlierImages stands for
slashes too, so that what is before the last one says nothing of the name.
*/}}
{{- define "kms.agentImageNames" -}}
{{- $config := include "kms.config" . | fromYaml }}
{{- $agents := list $config.agent }}
{{- range $config.namespaces }}
{{- $agents = append $agents (.agent | default dict) }}
{{- end }}
{{- $names := list }}
{{- range $agents }}
{{- range concat (list .image) (.earlierImages | default list) | compact }}
{{- $name := regexReplaceAll "[:@].*$" (base .) "" | replace "." "[.]" }}
{{- if contains "*" . }}
{{- $name = regexReplaceAll "^.*[*]" $name "[^/:@]*" }}
{{- end }}
{{- $names = append $names $name }}
{{- end }}
{{- end }}
{{- $names | uniq | join "|" }}
{{- end }}

{{/* Written without quotes, or with --set, the account's id is a number, and a large one would come out as 1.2e+15. */}}
{{- define "kms.accountID" -}}
{{- with .Values.accountID }}{{ kindIs "string" . | ternary . (int64 .) }}{{ end }}
{{- end }}

{{/* Where the API server finds the webhook: takes a dictionary of the root and the path. */}}
{{- define "kms.clientConfig" -}}
service:
  name: kms-webhook
  namespace: {{ .root.Release.Namespace }}
  path: {{ .path }}
  port: 443
{{- /*
With self-signed and cert-manager there is no caBundle here, not even an empty one. kms-webhook-certificates or cert-manager's
cainjector owns the field, and neither helm upgrade nor kubectl apply touches a field that they never set.
*/}}
{{- if eq .root.Values.certificates.mode "files" }}
caBundle: {{ b64enc .root.Values.certificates.files.caBundle }}
{{- end }}
{{- end }}

{{/* The namespaces that have opted in, without those that the webhook must not stand in the way of. */}}
{{- define "kms.namespaceSelector" -}}
matchExpressions:
  - key: kms.alibabacloud.com/injection
    operator: In
    values: [enabled]
  {{- include "kms.notExcluded" . | nindent 2 }}
{{- end }}

{{/* A requirement that leaves out the namespaces that no webhook of ours is ever called for. */}}
{{- define "kms.notExcluded" -}}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values: {{ append (.Values.excludedNamespaces | default list) .Release.Namespace | uniq | sortAlpha | toJson }}
{{- end }}
