{{- /* What the operator's pod and the pod of `helm test` share. */}}
{{- define "cmk-operator.env" -}}
- name: AZURE_FEDERATED_TOKEN_FILE
  value: /var/run/secrets/azure/tokens/azure-identity-token
{{- range $variable, $value := dict
  "CMK_OPERATOR_KEY_CHECK_INTERVAL" .Values.settings.keyCheckIntervalSeconds
  "CMK_OPERATOR_DRIFT_CHECK_INTERVAL" .Values.settings.driftCheckIntervalSeconds
  "CMK_OPERATOR_IDENTITY_CHECK_INTERVAL" .Values.settings.identityCheckIntervalSeconds
  "CMK_OPERATOR_REFERENCE_GRACE" .Values.settings.referenceGraceSeconds
  "CMK_OPERATOR_WORKERS" .Values.settings.workers
  "CMK_OPERATOR_KEY_WORKERS" .Values.settings.keyWorkers
  "CMK_OPERATOR_LOG_FORMAT" .Values.settings.logFormat
  "CMK_OPERATOR_LOG_LEVEL" .Values.settings.logLevel
  "CMK_OPERATOR_RESOURCE_METRICS" .Values.settings.resourceMetrics
  "CMK_OPERATOR_LISTEN_PORT" .Values.settings.listenPort
  "CMK_OPERATOR_AUDIT_SEGMENT_BYTES" .Values.audit.segmentBytes
  "CMK_OPERATOR_SHUTDOWN_GRACE" (div (mul 25 .Values.terminationGracePeriodSeconds) 60)
  "CMK_OPERATOR_LEASE_NAMESPACE" .Values.leaderElection.namespace }}
{{- if not (kindIs "invalid" $value) }}
- name: {{ $variable }}
  value: {{ kindIs "float64" $value | ternary (int64 $value) $value | toString | quote }}
{{- end }}
{{- end }}
{{- if .Values.licences.enabled }}
- name: CMK_OPERATOR_LICENCES
  value: "true"
{{- end }}
{{- if dig "enabled" false (.Values.supportRequests | default dict) }}
- name: CMK_OPERATOR_SUPPORT_REQUESTS
  value: "true"
{{- end }}
{{- with .Values.operatorClass }}
- name: CMK_OPERATOR_OPERATOR_CLASS
  value: {{ . | quote }}
{{- end }}
{{- with .Values.audit.sink.url }}
- name: CMK_OPERATOR_AUDIT_SINK_URL
  value: {{ . | quote }}
{{- end }}
{{- if .Values.audit.sink.tokenSecretRef.name }}
- name: CMK_OPERATOR_AUDIT_SINK_TOKEN_FILE
  value: /var/run/secrets/audit-sink/token
{{- end }}
{{- with .Values.extraEnv }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end -}}

{{- define "cmk-operator.volumeMounts" -}}
- name: azure-identity-token
  mountPath: /var/run/secrets/azure/tokens
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- if .Values.audit.sink.tokenSecretRef.name }}
- name: audit-sink
  mountPath: /var/run/secrets/audit-sink
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end -}}

{{- define "cmk-operator.volumes" -}}
- name: azure-identity-token
  projected:
    sources:
      - serviceAccountToken:
          path: azure-identity-token
          audience: {{ .Values.azure.tokenAudience | quote }}
          expirationSeconds: {{ .Values.azure.tokenExpirationSeconds }}
- name: tmp
  emptyDir:
    sizeLimit: 16Mi
{{- with .Values.audit.sink.tokenSecretRef }}
{{- if .name }}
- name: audit-sink
  secret:
    secretName: {{ .name }}
    items:
      - key: {{ .key }}
        path: token
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end -}}

{{- define "cmk-operator.pod" -}}
serviceAccountName: {{ .Values.serviceAccount.name }}
automountServiceAccountToken: true
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.initContainers }}
initContainers:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "cmk-operator.placement" -}}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* Not the operator's own name: no Service, PodDisruptionBudget or Deployment may take the pod of `helm test` for an operator. */}}
{{- define "cmk-operator.checkName" -}}
{{- printf "%s-check" (include "cmk-operator.name" . | trunc 57 | trimSuffix "-") -}}
{{- end -}}
