{{- define "monthend.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* What a selector may hold: it never changes over upgrades. Argument: dict "root" $ "component" "operator". */ -}}
{{- define "monthend.selectorLabels" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "monthend.labels" -}}
{{ include "monthend.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: monthend
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "monthend.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "monthend.timeZone" -}}
{{- if not .Values.timeZone }}{{ fail "timeZone is not set: name the zone that months are in, e.g. --set timeZone=Asia/Seoul; it is written into the database by the first migration and never changes" }}{{ end -}}
{{- .Values.timeZone -}}
{{- end -}}

{{- define "monthend.currency" -}}
{{- if not .Values.currency }}{{ fail "currency is not set: name the ISO 4217 code of every amount, e.g. --set currency=KRW; it is written into the database by the first migration and never changes" }}{{ end -}}
{{- .Values.currency -}}
{{- end -}}

{{- define "monthend.databaseSecret" -}}
{{- if .Values.database.existingSecret -}}
{{- .Values.database.existingSecret -}}
{{- else if .Values.devStack.enabled -}}
monthend-database
{{- else -}}
{{- fail "database.existingSecret is not set: name a Secret of this namespace with the keys migrate-url, operator-url and worker-url (postgres://ROLE:PASSWORD@HOST:5432/DATABASE), or set devStack.enabled=true for a development database" -}}
{{- end -}}
{{- end -}}

{{- define "monthend.encryptionSecret" -}}
{{- if .Values.encryption.existingSecret -}}
{{- .Values.encryption.existingSecret -}}
{{- else if .Values.devStack.enabled -}}
monthend-encryption
{{- else -}}
{{- fail "encryption.existingSecret is not set: name a Secret of this namespace with an entry for each key id (32 bytes, base64) and `active`, the id of the one that writes" -}}
{{- end -}}
{{- end -}}

{{- /* What the `restricted` profile asks of a pod. 65532 is the image's own user. */ -}}
{{- define "monthend.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- /* The same for a pod of the development stack, whose images have a user of their own. */ -}}
{{- define "monthend.devSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
# Ownership is set once: a database refuses data that the group may write.
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "monthend.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
