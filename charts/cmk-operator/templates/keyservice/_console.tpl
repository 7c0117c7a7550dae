{{- define "cmk-console.enabled" -}}
{{- if dig "console" "enabled" false (.Values.keyService | default dict) -}}
{{- if not .Values.keyService.enabled -}}
{{- fail "keyService.console.enabled needs keyService.enabled: the page is about data keys of the key service" -}}
{{- end -}}
true
{{- end -}}
{{- end -}}

{{- define "cmk-console.fullname" -}}
{{- printf "%s-console" (include "cmk-operator.fullname" . | trunc 55 | trimSuffix "-") -}}
{{- end -}}

{{- define "cmk-console.selectorLabels" -}}
app.kubernetes.io/name: cmk-console
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "cmk-console.labels" -}}
{{ include "cmk-console.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* The host of the page; fails with the sentence that helps if the address is not usable. */}}
{{- define "cmk-console.host" -}}
{{- $url := urlParse .Values.keyService.console.publicUrl -}}
{{- if or (ne $url.scheme "https") (not $url.host) $url.path $url.query $url.userinfo -}}
{{- fail "keyService.console.publicUrl must be the scheme and host that browsers use for the page, such as https://encryption.example.com" -}}
{{- end -}}
{{- $url.hostname -}}
{{- end -}}

{{- /* Fails with the sentence that helps if a value that nobody can guess is missing. */}}
{{- define "cmk-console.check" -}}
{{- $_ := include "cmk-console.host" . -}}
{{- with .Values.keyService.console -}}
{{- if not .openid.issuer -}}
{{- fail "keyService.console.openid.issuer is empty: name your OpenID Connect issuer, for Entra https://login.microsoftonline.com/TENANT-ID/v2.0" -}}
{{- end -}}
{{- if not .openid.clientId -}}
{{- fail (printf "keyService.console.openid.clientId is empty: register the page at the issuer, with the redirect URI %s/sign-in/callback" .publicUrl) -}}
{{- end -}}
{{- if not .openid.clientSecretRef.name -}}
{{- fail "keyService.console.openid.clientSecretRef.name is empty: put the client secret into a Secret of the release's namespace and name that" -}}
{{- end -}}
{{- if not .tls.secretName -}}
{{- fail (printf "keyService.console.tls.secretName is empty: administrators send credentials, so name a Secret of type kubernetes.io/tls with a certificate for %s, or behind an Ingress for %s.%s.svc (cert-manager makes one)" (include "cmk-console.host" $) (include "cmk-console.fullname" $) $.Release.Namespace) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The names of the Secrets that the console may write, by namespace; operator and key service may read them. */}}
{{- define "cmk-console.secrets" -}}
{{- $found := dict -}}
{{- if include "cmk-console.enabled" . -}}
{{- range .Values.keyService.console.secrets -}}
{{- $namespace := tpl .namespace $ -}}
{{- $_ := set $found $namespace (concat (get $found $namespace | default list) .names | uniq) -}}
{{- end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}
