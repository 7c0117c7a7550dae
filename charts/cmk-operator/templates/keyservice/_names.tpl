{{- /* Helm renders the templates of the deepest folder first: so this is what an upgrade with --reuse-values fails with. */}}
{{- define "cmk-keyservice.enabled" -}}
{{- if not (hasKey .Values "keyService") -}}
{{- fail "the values are those of an earlier release of this chart, without the defaults of this one: run helm upgrade with --reset-then-reuse-values, not with --reuse-values" -}}
{{- end -}}
{{- if .Values.keyService.enabled }}true{{ end -}}
{{- end -}}

{{- define "cmk-keyservice.fullname" -}}
{{- printf "%s-keyservice" (include "cmk-operator.fullname" . | trunc 52 | trimSuffix "-") -}}
{{- end -}}

{{- /* Of everything that belongs to the key service, its migration too. */}}
{{- define "cmk-keyservice.partLabels" -}}
app.kubernetes.io/name: cmk-keyservice
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* Of the pods that serve. */}}
{{- define "cmk-keyservice.selectorLabels" -}}
{{ include "cmk-keyservice.partLabels" . }}
app.kubernetes.io/component: serve
{{- end -}}

{{- define "cmk-keyservice.labels" -}}
{{ include "cmk-keyservice.partLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "cmk-keyservice.image" -}}
{{- with .Values.keyService.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The names of the Secrets that the key service may read, by namespace. */}}
{{- define "cmk-keyservice.secrets" -}}
{{- $found := dict -}}
{{- range .Values.keyService.secrets -}}
{{- $namespace := tpl .namespace $ -}}
{{- $_ := set $found $namespace (concat (get $found $namespace | default list) .names | uniq) -}}
{{- end -}}
{{- range $namespace, $names := include "cmk-console.secrets" . | fromYaml -}}
{{- $_ := set $found $namespace (concat (get $found $namespace | default list) $names | uniq) -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}

{{- /* Fails with the sentence that helps if a value that nobody can guess is missing. */}}
{{- define "cmk-keyservice.check" -}}
{{- with .Values.keyService -}}
{{- if not .database.urlSecretRef.name -}}
{{- fail "keyService.database.urlSecretRef.name is empty: create a Secret with the URL of a PostgreSQL database (postgresql://user:password@host/name) and name it" -}}
{{- end -}}
{{- if not .keyRings.internalSecretRef.name -}}
{{- fail "keyService.keyRings.internalSecretRef.name is empty: make a key ring with `cmk-keyservice new-keyring -`, keep a copy where the database's backups are not, put it into a Secret and name that" -}}
{{- end -}}
{{- if not .keyRings.platformSecretRef.name -}}
{{- fail "keyService.keyRings.platformSecretRef.name is empty: make a second key ring with `cmk-keyservice new-keyring -`, put it into a Secret of its own and name that" -}}
{{- end -}}
{{- if not .tls.secretName -}}
{{- fail (printf "keyService.tls.secretName is empty: callers send plaintext, so name a Secret of type kubernetes.io/tls with a certificate for %s.%s.svc (cert-manager makes one)" (include "cmk-keyservice.fullname" $) $.Release.Namespace) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "cmk-keyservice.databaseVolume" -}}
- name: database
  secret:
    secretName: {{ .Values.keyService.database.urlSecretRef.name }}
    defaultMode: 0440
    items:
      - key: {{ .Values.keyService.database.urlSecretRef.key }}
        path: url
{{- end -}}
