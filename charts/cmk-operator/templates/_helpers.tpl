{{- define "cmk-operator.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "cmk-operator.fullname" -}}
{{- $name := include "cmk-operator.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "cmk-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "cmk-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "cmk-operator.labels" -}}
{{ include "cmk-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "cmk-operator.lease" -}}
{{- if .Values.operatorClass }}cmk-operator-{{ .Values.operatorClass }}{{ else }}cmk-operator{{ end -}}
{{- end -}}

{{- define "cmk-operator.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* The names of the Secrets that the operator may read, by namespace. */}}
{{- define "cmk-operator.secrets" -}}
{{- if .Values.rbac.secretNamespaces -}}
{{- fail "rbac.secretNamespaces allowed the operator to read every Secret of a namespace, and is no more: name the Secrets that your manifests use (CustomerTenant spec.notifications.secretRef, EncryptedResource spec.snowflake.privateKeySecretRef) in rbac.secrets, such as: --set 'rbac.secretNamespaces=null,rbac.secrets[0].namespace=team-a,rbac.secrets[0].names={snowflake}'" -}}
{{- end -}}
{{- $found := dict -}}
{{- range .Values.rbac.secrets -}}
{{- $namespace := tpl .namespace $ -}}
{{- $_ := set $found $namespace (concat (get $found $namespace | default list) .names | uniq) -}}
{{- end -}}
{{- range $namespace, $names := include "cmk-console.secrets" . | fromYaml -}}
{{- $_ := set $found $namespace (concat (get $found $namespace | default list) $names | uniq) -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}

{{- /* The ServiceMonitor of a part: its templates of names and labels begin with `of`, `selector` is that of the Service. */}}
{{- define "cmk-operator.serviceMonitor" -}}
{{- $root := .root -}}
{{- $monitor := .root.Values.serviceMonitor -}}
{{- $installed := .root.Capabilities.APIVersions.Has "monitoring.coreos.com/v1/ServiceMonitor" -}}
{{- if and $monitor.enabled (or (not $monitor.onlyIfInstalled) $installed) -}}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ include (printf "%s.fullname" .of) $root }}
  namespace: {{ $monitor.namespace | default $root.Release.Namespace }}
  labels:
    {{- include (printf "%s.labels" .of) $root | nindent 4 }}
    {{- with $monitor.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- if and $monitor.namespace (ne $monitor.namespace $root.Release.Namespace) }}
  namespaceSelector:
    matchNames: [{{ $root.Release.Namespace }}]
  {{- end }}
  selector:
    matchLabels:
      {{- include .selector $root | nindent 6 }}
  endpoints:
    - port: {{ .port }}
      path: /metrics
      interval: {{ $monitor.interval }}
      # The namespace of a metric is that of the key, not that of the pod.
      honorLabels: true
      {{- with $monitor.scrapeTimeout }}
      scrapeTimeout: {{ . }}
      {{- end }}
      {{- with $monitor.relabelings }}
      relabelings:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $monitor.metricRelabelings }}
      metricRelabelings:
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end -}}
{{- end -}}
